"""What each rank is to hold, told before anything is allocated: `tools.train CONFIG --plan`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torchrec.distributed.planner.types import ShardingOption

from recsys.config import Config
from recsys.data.encode import Encoder, InputSpec
from recsys.data.fit import fit
from recsys.distributed import Ranks, on_first
from recsys.model.ranker import Ranker, RankerLoss
from recsys.tables.plan import make_plan

_SUM_BYTES = 4
"""Of a row's Adagrad sum in each piece of it."""


@dataclass
class Bytes:
    """Of one rank.

    Attributes:
        weights: the tables' rows. state: their row-wise Adagrad sums.
        planned: the planner's estimate of both and of the buffers that lookups, gradients and exchanges take.
        dense: everything but the tables, with Adam's two moments of it.
    """

    weights: int = 0
    state: int = 0
    planned: int = 0
    dense: int = 0


@dataclass(frozen=True)
class Needs:
    """`options`: the planner's account of each table. `ranks`: the memory of each rank."""

    options: list[ShardingOption]
    ranks: list[Bytes]


def needs(spec: InputSpec, config: Config, ranks: Ranks) -> Needs:
    """What a ranker would take; no table is allocated. Complete on the first rank, empty on others. Collective.

    Raises:
        InputError: a table cannot be sharded so on these ranks.
    """
    with torch.device("meta"):
        model = RankerLoss(Ranker(spec, config.model))
    _, options = make_plan(model, spec, config, ranks)
    dense = 3 * sum(parameter.nbytes for parameter in model.ranker.dense_arch.parameters())
    told = [Bytes(dense=dense) for _ in range(ranks.world_size)]
    for option in options:
        for shard in option.shards:
            assert shard.rank is not None and shard.storage is not None
            rows, columns = shard.size
            rank = told[shard.rank]
            rank.weights += rows * columns * option.tensor.element_size()
            rank.state += rows * _SUM_BYTES
            rank.planned += shard.storage.hbm + shard.storage.ddr
    return Needs(options, told)


def show(config: Config, ranks: Ranks) -> None:
    """Print what training would take, on the first rank; writes nothing. Collective.

    The tables are those of the run's encoder, or, where there is no run yet, of one fitted for this alone.

    Raises:
        InputError: as `needs`, or the dataset cannot be read.
    """
    said: list[InputSpec | None] = [None]

    def look() -> None:
        folder = Path(config.run) / "encoder"
        encoder = Encoder.load(config, folder) if (folder / "encoder.json").exists() else fit(config)
        said[0] = encoder.spec

    on_first(ranks, look)
    dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    assert said[0] is not None
    found = needs(said[0], config, ranks)
    if ranks.is_first:
        console = Console()
        for table in _tables(found):
            console.print(table)


def _tables(found: Needs) -> Iterable[Table]:
    tables = Table("table", "rows", "width", "dtype", "sharding", "kernel", "held by", title="tables")
    for option in sorted(found.options, key=lambda option: option.name):
        rows, width = option.tensor.shape
        dtype = str(option.tensor.dtype).removeprefix("torch.")
        tables.add_row(
            option.name, f"{rows:,}", f"{width}", dtype, option.sharding_type, option.compute_kernel, _held_by(option)
        )
    yield tables
    memory = Table("rank", "table weights", "their Adagrad sums", "both with buffers (planner)", "dense with Adam")
    memory.title = "memory in MiB"
    for rank, need in enumerate(found.ranks):
        numbers = (need.weights, need.state, need.planned, need.dense)
        memory.add_row(str(rank), *(f"{number / 2**20:,.1f}" for number in numbers))
    yield memory


def _held_by(option: ShardingOption) -> str:
    """Such as "0-2: 25 x 8, 3: 5 x 8": ranks, and rows x columns that each holds."""
    held: dict[int, list[str]] = defaultdict(list)
    for shard in option.shards:
        held[shard.rank or 0].append(f"{shard.size[0]:,} x {shard.size[1]}")
    told = sorted((rank, " + ".join(pieces)) for rank, pieces in held.items())
    runs = [list(run) for _, run in groupby(enumerate(told), lambda each: (each[1][0] - each[0], each[1][1]))]
    first_last = [(run[0][1][0], run[-1][1]) for run in runs]
    return ", ".join(
        f"{first}-{last}: {size}" if first < last else f"{last}: {size}" for first, (last, size) in first_last
    )
