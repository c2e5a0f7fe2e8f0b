"""Reading and writing the whole tables of a sharded model, shard by shard, for tests."""

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor

from recsys.tables.sharding import Sharded

Shards = list[tuple[str, tuple[int, ...], Tensor]]
Sums = dict[str, list[tuple[int, Tensor]]]


def fill(sharded: Sharded, tables: dict[str, Tensor], dense: dict[str, Tensor]) -> None:
    """Put whole tables (by table name) and the dense part's state into a live model."""
    for name, value in sharded.model.state_dict().items():
        with torch.no_grad():
            if ".dense_arch." in name:
                value.copy_(dense[name.split(".dense_arch.")[1]])
                continue
            for offsets, tensor in held(value):
                place = tuple(slice(o, o + s) for o, s in zip(offsets, tensor.shape, strict=True))
                tensor.copy_(tables[name.split(".")[-2]][place])


def shards(sharded: Sharded) -> tuple[Shards, dict[str, Tensor]]:
    """This rank's shards (table name, offsets, values) and the dense part's state, copied."""
    found: Shards = []
    dense = {}
    for name, value in sharded.model.state_dict().items():
        if ".dense_arch." in name:
            dense[name.split(".dense_arch.")[1]] = value.detach().clone()
        else:
            found += [(name.split(".")[-2], offsets, tensor.detach().clone()) for offsets, tensor in held(value)]
    return found, dense


def whole(parts: list[Shards]) -> dict[str, Tensor]:
    """The tables from every rank's shards; each cell must come exactly once, or from every rank the same."""
    cells: dict[str, list[Shards]] = {}
    for rank in parts:
        for name in {part[0] for part in rank}:
            cells.setdefault(name, []).append([part for part in rank if part[0] == name])
    tables = {}
    for name, ranks in cells.items():
        found = [part for rank in ranks for part in rank]
        ends = [[o + s for o, s in zip(offsets, values.shape, strict=True)] for _, offsets, values in found]
        size = torch.Size(max(end[axis] for end in ends) for axis in range(2))
        if len(parts) > 1 and all(len(rank) == 1 and rank[0][2].shape == size for rank in ranks) and len(ranks) > 1:
            assert len(ranks) == len(parts), f"{name}: only some ranks have a copy"
            assert all(torch.equal(rank[0][2], ranks[0][0][2]) for rank in ranks), f"{name}: the copies differ"
            found = ranks[0]
        table = torch.full(size, float("nan"), dtype=found[0][2].dtype)
        for _, offsets, values in found:
            place = tuple(slice(o, o + s) for o, s in zip(offsets, values.shape, strict=True))
            assert table[place].isnan().all(), f"{name}: two shards hold the same cells"
            table[place] = values
        assert not table.isnan().any(), f"{name}: no shard holds some cells"
        tables[name] = table
    return tables


def sums(sharded: Sharded) -> Sums:
    """By table, the pieces (place, values) of its row-wise Adagrad sums on this rank, copied."""
    return {
        name: [(offsets[0], tensor.clone()) for offsets, tensor in held(state)]
        for name, state in sharded.states().items()
    }


def whole_sums(parts: list[Sums]) -> dict[str, Tensor]:
    """The sums from every rank's pieces, which must be the same where several ranks hold them."""
    found: dict[str, dict[int, Tensor]] = {}
    for rank in parts:
        for name, pieces in rank.items():
            for place, values in pieces:
                assert torch.equal(found.setdefault(name, {}).setdefault(place, values), values)
    return {name: torch.cat([pieces[place] for place in sorted(pieces)]) for name, pieces in found.items()}


def held(value: Tensor) -> list[tuple[tuple[int, ...], Tensor]]:
    """Offsets and memory of what this rank holds of a tensor, sharded or a copy."""
    if isinstance(value, ShardedTensor):
        return [(bounds(shard)[0], shard.tensor) for shard in value.local_shards()]
    return [((0,) * value.ndim, value)]


def bounds(shard: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offsets and sizes of a shard of a ShardedTensor."""
    metadata = shard.metadata  # type: ignore[attr-defined]
    return tuple(metadata.shard_offsets), tuple(metadata.shard_sizes)
