"""Where the cells of a live table lie: its shards over the ranks, and the memory of those that are this rank's own."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.remote_device import _remote_device

from recsys.distributed import Ranks


@dataclass(frozen=True, eq=False)
class Shard:
    """Cells [row, row + rows) x [column, column + columns) of a table, on one rank.

    `place` counts the shards of the table on that rank. `weight` [rows, columns] and `state` [rows], the Adagrad sums
    of its rows, are that rank's memory, shared with what trains it; on the other ranks they are empty.
    """

    row: int
    column: int
    rows: int
    columns: int
    rank: int
    place: int
    weight: Tensor
    state: Tensor


@dataclass(frozen=True, eq=False)
class Table:
    """A table of `rows` x `dim`. Its shards, none without rows, are sorted by rank, all equally wide.

    `copied`: each shard is a copy of the whole table (data-parallel).
    """

    rows: int
    dim: int
    dtype: torch.dtype
    shards: list[Shard]
    copied: bool

    @classmethod
    def of(cls, weight: Tensor, state: Tensor | None, ranks: Ranks) -> "Table":
        """From a model's tensor and what `Sharded.states` has for it."""
        weight, empty = weight.detach(), torch.empty(0)
        rows, dim = weight.size()
        if not isinstance(weight, ShardedTensor):
            assert state is not None
            copies = [(weight, state) if rank == ranks.rank else (empty, empty) for rank in range(ranks.world_size)]
            shards = [Shard(0, 0, rows, dim, rank, 0, *memory) for rank, memory in enumerate(copies)]
            return cls(rows, dim, weight.dtype, shards, copied=True)
        held = {tuple(shard.metadata.shard_offsets): shard.tensor.detach() for shard in weight.local_shards()}
        local = state.local_shards() if isinstance(state, ShardedTensor) else []
        sums = {shard.metadata.shard_offsets[0]: shard.tensor for shard in local}
        told = [
            (_owner(shard), *shard.shard_offsets, *shard.shard_sizes) for shard in weight.metadata().shards_metadata
        ]
        columns = sorted({column for _, _, column, _, _ in told})
        shards = []
        for owner, row, column, tall, wide in sorted(told):
            if tall:
                place = sum(shard.rank == owner for shard in shards)
                # torchrec numbers the states of a table's column shards one behind the other.
                number = columns.index(column) * rows + row
                memory = (held[row, column], sums[number]) if owner == ranks.rank else (empty, empty)
                shards.append(Shard(row, column, tall, wide, owner, place, *memory))
        return cls(rows, dim, weight.dtype, shards, copied=False)

    @property
    def columns(self) -> int:
        """Columns of each shard."""
        return self.shards[0].columns

    @cached_property
    def starts(self) -> list[int]:
        """First row of each block of rows that a shard begins at, in order."""
        return sorted({shard.row for shard in self.shards})

    def of_rank(self, rank: int) -> list[Shard]:
        """The shards of one rank."""
        return [shard for shard in self.shards if shard.rank == rank]


def _owner(shard: ShardMetadata) -> int:
    assert isinstance(shard.placement, _remote_device)
    return shard.placement.rank() or 0
