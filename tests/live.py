"""Reading and writing the whole tables of a sharded model, shard by shard, for tests."""

import torch
from torch import Tensor

from recsys.tables.sharding import Sharded

Shards = list[tuple[str, tuple[int, ...], Tensor]]


def fill(sharded: Sharded, tables: dict[str, Tensor], dense: dict[str, Tensor]) -> None:
    """Put whole tables (by table name) and the dense part's state into a live model."""
    state = sharded.model.state_dict()
    for name, value in state.items():
        if ".dense_arch." in name:
            with torch.no_grad():
                value.copy_(dense[name.split(".dense_arch.")[1]])
        else:
            for shard in value.local_shards():
                place = tuple(slice(o, o + s) for o, s in zip(*bounds(shard), strict=True))
                with torch.no_grad():
                    shard.tensor.copy_(tables[name.split(".")[-2]][place])


def shards(sharded: Sharded) -> tuple[Shards, dict[str, Tensor]]:
    """This rank's shards (table name, offsets, values) and the dense part's state, copied."""
    found: Shards = []
    dense = {}
    for name, value in sharded.model.state_dict().items():
        if ".dense_arch." in name:
            dense[name.split(".dense_arch.")[1]] = value.detach().clone()
        else:
            found += [
                (name.split(".")[-2], bounds(shard)[0], shard.tensor.detach().clone()) for shard in value.local_shards()
            ]
    return found, dense


def whole(parts: list[Shards]) -> dict[str, Tensor]:
    """The tables from every rank's shards; each cell must come exactly once."""
    cells: dict[str, Shards] = {}
    for part in (part for rank in parts for part in rank):
        cells.setdefault(part[0], []).append(part)
    tables = {}
    for name, found in cells.items():
        ends = [[o + s for o, s in zip(offsets, values.shape, strict=True)] for _, offsets, values in found]
        size = [max(end[axis] for end in ends) for axis in range(2)]
        table = torch.full(size, float("nan"))
        for _, offsets, values in found:
            place = tuple(slice(o, o + s) for o, s in zip(offsets, values.shape, strict=True))
            assert table[place].isnan().all(), f"{name}: two shards hold the same cells"
            table[place] = values
        assert not table.isnan().any(), f"{name}: no shard holds some cells"
        tables[name] = table
    return tables


def bounds(shard: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offsets and sizes of a shard of a ShardedTensor."""
    metadata = shard.metadata  # type: ignore[attr-defined]
    return tuple(metadata.shard_offsets), tuple(metadata.shard_sizes)
