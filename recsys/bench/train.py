"""Row `train`: rows a second from Parquet through our loop, against bare torchrec on batches in memory.

Same model, same plan, same ranks, same rows: the batches in memory are those that the reader gives for the first
stretch. A stretch is what the loop trains between two validations; ours opens the files, shuffles, encodes, cuts
batches, and logs to TensorBoard. Contenders alternate within the same processes, so that what else the machine does
falls on all of them; the ratio is the median over rounds of (ours / bound) within a round. Ours pays for the first
block of an epoch before its first step, so stretches that begin an epoch are slower: with two stretches an epoch and an
odd number of rounds they are the majority, and the median leans against us. `detail.cpu_seconds` says what each turn
cost when other work on the machine blurs the clock.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist

from recsys.bench.bound import PIPELINES, Bare
from recsys.bench.data import make
from recsys.bench.frame import Measured, median_ratio
from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.distributed import Ranks
from recsys.tables.checkpoint import Progress
from recsys.train import Loop, build

RANKS = 2
ROUNDS, FEWEST = 7, 3
SECONDS = 120.0
"""Rounds of all contenders: so many, or on a slow machine as many as fit into the time, but not fewer than FEWEST."""
WARM_UP = 20
"""Steps of each contender before the clock starts."""
REQUIRED = 0.85


class Ours:
    """Our loop, stretch after stretch, without the validations between them."""

    def __init__(self, config: Config, encoder: Encoder, ranks: Ranks) -> None:
        self.loop = Loop(config, encoder, build(config, encoder, ranks), ranks)
        self.progress = Progress()

    def run(self, steps: int) -> None:
        """Train so many steps, starting the next epoch where they do not fit into this one."""
        if self.progress.epoch_step + steps > self.loop.reader.steps:
            self.next_epoch()
        self.progress = self.loop.stretch(self.progress, self.progress.epoch_step + steps)

    def next_epoch(self) -> None:
        """Go on at the beginning of an epoch."""
        self.progress = replace(self.progress, epoch=self.progress.epoch + 1, epoch_step=0)


def measure(config: Config, ranks: Ranks) -> Measured:
    """Make the bench's dataset, unless it is there, and compare on it. Collective."""
    if ranks.is_first:
        make(config.data)
    return compare(config, ranks)


def compare(config: Config, ranks: Ranks) -> Measured:
    """Rates in rows a second over all ranks, the same on every rank. Collective."""
    folder = Path(config.run) / "encoder"
    if ranks.is_first:
        fit(config).save(folder)
    dist.barrier()
    encoder = Encoder.load(config, folder)
    ours = Ours(config, encoder, ranks)
    steps = ours.loop.reader.steps // config.train.evals_per_epoch
    batches = list(islice(ours.loop.reader.epoch(), steps))
    contenders: dict[str, Callable[[int], None]] = {"ours": ours.run}
    for name in PIPELINES:
        contenders[name] = Bare(name, build(config, encoder, ranks), batches, ranks.device).run
    for run in contenders.values():
        run(min(WARM_UP, steps))
    ours.next_epoch()
    timed: dict[str, list[Span]] = {name: [] for name in contenders}
    names, spent = list(contenders), 0.0
    for k in range(ROUNDS):
        if k >= FEWEST and spent * (k + 1) / k > SECONDS:
            break
        # The order turns, so that none always follows the same one.
        for name in names[k % len(names) :] + names[: k % len(names)]:
            timed[name].append(_timed(contenders[name], steps, ranks))
            spent += timed[name][-1].wall
    rows = steps * config.train.batch_size * ranks.world_size
    return median_ratio(
        {name: [rows / span.wall for span in spans] for name, spans in timed.items()},
        unit="rows/s",
        required=REQUIRED,
        detail={
            "ranks": ranks.world_size,
            "threads_a_rank": torch.get_num_threads(),
            "batch_size_a_rank": config.train.batch_size,
            "steps": steps,
            "cpu_seconds": {name: [round(span.cpu, 3) for span in spans] for name, spans in timed.items()},
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
    )


@dataclass(frozen=True)
class Span:
    """Seconds of one turn: on the first rank's clock, and of processor time over all ranks and their threads."""

    wall: float
    cpu: float


def _timed(run: Callable[[int], None], steps: int, ranks: Ranks) -> Span:
    dist.barrier()
    start, used = time.perf_counter(), time.process_time()
    run(steps)
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()
    dist.barrier()
    took = torch.tensor([time.perf_counter() - start, time.process_time() - used], dtype=torch.float64)
    both = [torch.zeros_like(took) for _ in range(ranks.world_size)]
    # The first rank's wall clock on every rank, so that all agree on when to stop and which bound is the faster.
    dist.all_gather(both, took)
    return Span(float(both[0][0]), float(sum(pair[1] for pair in both)))
