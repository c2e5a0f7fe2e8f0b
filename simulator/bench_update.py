"""Row `update`: 1,000 cold rows learned and written into a table of 10 million, against one of 10 thousand.

A turn optimises the rows against the frozen ranker in a fixed number of passes, writes the delta, and applies it to the
live model. Both tables hold one vector in all rows, so both optimise the same numbers, at other places of memory:
histories are drawn from all over the table. `detail` tells the parts, and apart from them what does grow with the
table: before, the item map and the prior, which a command makes once; behind, the checkpoint on disk, whose bytes are
copied and summed anew.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.bench.frame import Measured, alternated
from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import Prior, unknown_prior
from recsys.coldrows.tune import finetune
from recsys.config import Config, Data, Evaluate, Feature, Model
from recsys.data.encode import ITEM, USER, Block, Encoder
from recsys.data.ids import IdMap
from recsys.data.jagged import Jagged
from recsys.distributed import Ranks
from recsys.tables import checkpoint, live, log
from recsys.tables.checkpoint import Progress
from recsys.tables.patch import patch
from recsys.tables.piece import Piece
from recsys.tables.rows import Rows
from recsys.tables.version import Version
from recsys.train import build
from simulator.update import SOURCE

LARGE, SMALL, COLD, DIM = 10_000_000, 10_000, 1_000, 32
EACH, HISTORY, USERS = 10, 20, 1_000
"""Rows of a cold item, items of a history, users."""
PASSES, ROUNDS = 2, 9
REQUIRED = 0.8


def measure(config: Config, ranks: Ranks) -> Measured:
    """Cold rows a second, on one rank; it needs nothing of the config."""
    return compare(ranks, LARGE, SMALL, COLD, ROUNDS)


def compare(ranks: Ranks, large: int, small: int, cold: int, rounds: int) -> Measured:
    """Rates of `cold` rows into tables of `large` and `small` rows. Collective over one rank."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {count: Side(Path(folder) / str(count), count, cold, ranks) for count in (large, small)}
        turns: dict[str, Callable[[], None]] = {
            "ours": sides[large].turn,
            f"the same in {small:,} rows": sides[small].turn,
        }
        detail: dict[str, Any] = {"rows": cold, "examples": cold * EACH, "dim": DIM}
        measured = alternated(turns, cold, "rows/s", REQUIRED, rounds, detail)
        for count, side in sides.items():
            parts = {name: round(median(seconds), 4) for name, seconds in side.parts.items()}
            detail[f"seconds, {count:,} rows"] = parts | side.once()
            detail[f"passes, {count:,} rows"] = side.passes
            detail[f"cpu seconds, {count:,} rows"] = side.cpu
        return measured


class Side:
    """A live ranker over a table of `count` rows, of which the last `cold` are free, and rows to learn from.

    Attributes:
        parts: seconds of each turn, by part.
        passes: of each turn. cpu: its seconds of processor time, for when other work on the machine blurs the clock.
    """

    def __init__(self, home: Path, count: int, cold: int, ranks: Ranks) -> None:
        self.ranks, self.home = ranks, home
        self.parts: dict[str, list[float]] = {"optimise": [], "delta": [], "write": []}
        self.passes: list[int] = []
        self.cpu: list[float] = []
        self._setup: dict[str, float] = {}
        encoder = _encoder(home, count, cold)
        self._sharded = build(encoder.config, encoder, ranks)
        self._rows = Rows(self._sharded, ranks)
        self._rows.tables[ITEM].shards[0].weight.fill_(0.1)
        self._rows.tables[USER].shards[0].weight.normal_(generator=torch.Generator().manual_seed(0))
        self.items = pa.array(np.arange(count, count + cold))
        self._frozen = self._once("item map", lambda: Frozen(encoder, self._sharded, self.items, ranks))
        prior: Prior = self._once("prior", lambda: unknown_prior(self._frozen))
        self._prior = Prior(prior.start, torch.eye(DIM, dtype=torch.float64))
        self.named = torch.from_numpy(self._frozen.encoder.maps[ITEM].rows(self.items))
        self._block = _block(self.named.numpy(), count - cold)
        self._version = Version("bench", "bench")
        self._start = self._version

    def turn(self) -> None:
        """Learn, write down, apply."""
        options: dict[str, Any] = {"strength": 2.0, "tolerance": 1e-12, "max_passes": PASSES, "batch_size": 4096}
        begin, used = time.perf_counter(), time.process_time()
        found = finetune(self._frozen, self._block, self._prior, **options)
        learned = time.perf_counter()
        piece = Piece.of(ITEM, self.named, self.items, found.rows, SOURCE, self._start)
        delta = log.append(self.home, [piece])
        written = time.perf_counter()
        self._version = live.apply(delta, self._rows, self._version, self.ranks)
        applied = time.perf_counter()
        self.passes.append(found.passes)
        self.cpu.append(round(time.process_time() - used, 3))
        seconds = learned - begin, written - learned, applied - written
        for part, took in zip(self.parts.values(), seconds, strict=True):
            part.append(took)

    def once(self) -> dict[str, float]:
        """Seconds of what is done once and grows with the table."""
        progress = Progress(best_auc=0.5)
        before = replace(self._version, delta=self._version.delta - 1)
        source = checkpoint.save(self.home / "checkpoints", self._sharded, progress, 1, before)
        self._once("checkpoint", lambda: patch(source, log.pending(self.home, before.delta)))
        return {f"once: {name}": round(seconds, 2) for name, seconds in self._setup.items()}

    def _once(self, name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        found = work()
        self._setup[name] = time.perf_counter() - begin
        return found


def _encoder(home: Path, count: int, cold: int) -> Encoder:
    home.mkdir()
    users, items = np.arange(USERS), np.arange(1, count - cold)
    pq.write_table(pa.table({USER: users}), home / "users.parquet")
    pq.write_table(pa.table({ITEM: items[:1]}), home / "items.parquet")
    config = Config(
        run=str(home),
        data=Data(path=str(home), history=HISTORY),
        features=[Feature(name=USER, of="user")],
        model=Model(dim=DIM, top=[64, 32]),
        evaluate=Evaluate(batch_size=4096),
        item_sharding="row_wise",
    )
    maps = {
        USER: IdMap(USER, pa.array(users), np.ones(len(users), np.int64), len(users) + 1),
        ITEM: IdMap(ITEM, pa.array(items), np.ones(len(items), np.int64), count),
    }
    return Encoder(config, maps, {}, lineage="bench")


def _block(named: np.ndarray, warm: int) -> Block:
    """EACH rows of each item, half of them positives; histories of items from all over the table."""
    order, n = np.random.default_rng(0), len(named) * EACH
    offsets = np.arange(n + 1) * HISTORY
    return Block(
        user=order.integers(1, USERS + 1, n),
        item=np.zeros(n, np.int64),
        item_row=np.repeat(named, EACH),
        single=order.integers(1, USERS + 1, (n, 1)),
        multi=[],
        dense=np.zeros((n, 0), np.float32),
        events=Jagged(2 * order.integers(1, warm, n * HISTORY) + order.integers(0, 2, n * HISTORY), offsets),
        content=np.zeros((n, 0), np.int64),
        history_content=np.zeros((n * HISTORY, 0), np.int64),
        label=(np.arange(n) % 2).astype(np.float32),
        weight=np.ones(n, np.float32),
        row_id=np.arange(n),
    )
