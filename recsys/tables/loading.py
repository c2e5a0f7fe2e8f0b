"""Loading a checkpoint into a sharded model, whatever ranks and sharding it was saved under and the model has.

Each rank reads the bytes of the cells that it holds, a few megabytes at a time. Everything is looked at before anything
is changed: the bytes of every file (each rank reads a share of them, which the system then has in its cache), and that
the tensors are this model's.

Where a table is cut by columns each piece keeps a row-wise Adagrad sum of its own for every row. Cut in another way, a
new piece begins with the mean of the sums of the old pieces that it overlaps, by the columns shared: nothing is lost
where the cut is the same, and a table's mean sum stays what it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor

from recsys.distributed import together
from recsys.errors import InputError, RelayedError
from recsys.tables import manifest
from recsys.tables.folders import Progress, progress_of
from recsys.tables.places import FORMAT, Places, places
from recsys.tables.sharding import Sharded, table_of
from recsys.tables.stored import DENSE, MODEL, ROWS, StoredTensor, tensors


def load(path: Path, sharded: Sharded, optimizer: bool = True, grown: bool = False) -> Progress:
    """Load a checkpoint into a sharded model; where the run stood. Collective.

    Args:
        optimizer: load the optimizers' state too. A model saved before its first step has none of the dense part.
        grown: the model's tables may have more rows than were saved, which stay as they are.

    Raises:
        InputError: it is damaged, or belongs to another model (the first differing tensor is named); on every rank,
            nothing loaded.
    """
    if wrong := damage(path):
        raise (RelayedError if dist.get_rank() else InputError)(wrong)
    return load_intact(path, sharded, optimizer, grown)


def damage(path: Path) -> str | None:
    """What of a checkpoint's files is missing, cut short or changed; None is nothing. Collective.

    Each rank reads a share of their bytes; all are told the lowest one's finding.

    Raises:
        InputError: it is of another version, or the system refuses to read it; on every rank.
    """

    def look() -> str | None:
        try:
            files = manifest.read(path, FORMAT)["files"]
            manifest.check_sizes(path, files)
            manifest.check_bytes(path, files, sorted(files)[dist.get_rank() :: dist.get_world_size()])
        except manifest.UnreadableError:
            raise
        except InputError as error:
            return str(error)
        return None

    said: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(said, together(look))
    return next(filter(None, said), None)


def load_intact(path: Path, sharded: Sharded, optimizer: bool = True, grown: bool = False) -> Progress:
    """`load` for a checkpoint whose files have been found undamaged: their bytes are not looked at once more."""
    stored = together(lambda: _Checked.open(path, sharded, optimizer, grown))
    with torch.no_grad():
        if optimizer:
            _load_dense(stored, sharded)
            _load_sums(stored, sharded)
        # After the dense optimizer's state, since making room for it is a step that decays weights.
        for name, value in sharded.model.state_dict().items():
            for (row, column), held in _pieces(value):
                source = stored.model[name]
                columns = range(column, column + held.size(1))
                for rows, cells in source.blocks(range(row, min(row + len(held), source.rows)), columns):
                    held[rows.start - row : rows.stop - row] = cells.to(held.device)
    return stored.progress


def stored_tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every model tensor in a checkpoint.

    Raises:
        InputError: not a whole checkpoint.
    """
    return _model_sizes(tensors(path))


def read(path: Path, names: list[str]) -> dict[str, Tensor]:
    """Whole tensors of the model in a checkpoint, in memory; no process group takes part.

    Raises:
        InputError: not a whole checkpoint, or it has no such tensor.
    """
    found = tensors(path)
    missing = [name for name in names if MODEL + name not in found]
    if missing:
        raise InputError(f"{path}: checkpoint of another model: it has no tensor {missing[0]}")
    return {name: StoredTensor(path, name, found=found).whole() for name in names}


@dataclass(frozen=True)
class _Checked:
    """A checkpoint that has been found to be of this model: by tensor, by table, by parameter and key."""

    progress: Progress
    model: dict[str, StoredTensor]
    sums: dict[str, StoredTensor]
    dense: dict[tuple[str, str], StoredTensor]

    @classmethod
    def open(cls, path: Path, sharded: Sharded, optimizer: bool, grown: bool) -> "_Checked":
        """Look at all that is to be loaded."""
        found = places(path, manifest.read(path, FORMAT))
        state = sharded.model.state_dict()
        _compare(path, found, state, grown)
        tables = {table: name for name in state if (table := table_of(name))} if optimizer else {}
        dense = []
        if optimizer and any(name.startswith(DENSE) for name in found):
            dense = [(name, key) for name, keys in sharded.dense_optimizer.state_keys.items() for key in keys]
        checked = cls(
            progress_of(path),
            {name: StoredTensor(path, name, found=found) for name in state},
            {table: StoredTensor(path, table, ROWS, found) for table in tables},
            {(name, key): StoredTensor(path, f"{name}.{key}", DENSE, found) for name, key in dense},
        )
        checked._require(path, tables, sharded)
        return checked

    def _require(self, path: Path, tables: dict[str, str], sharded: Sharded) -> None:
        for stored in [*self.model.values(), *self.sums.values(), *self.dense.values()]:
            _ = stored.shards
        for table, stored in self.sums.items():
            expected = (state := self.model[tables[table]]).rows, len(state.columns)
            if stored.size != expected:
                raise InputError(f"{path}: table {table}: optimizer state {stored.size}, expected {expected}")
        for (name, key), stored in self.dense.items():
            parameter = sharded.dense_optimizer.params[name]
            expected = () if key == "step" else tuple(parameter.size())
            if stored.size != expected:
                raise InputError(f"{path}: {name}: optimizer state {key} is {stored.size}, expected {expected}")


def _compare(path: Path, found: Places, model: dict[str, Tensor], grown: bool) -> None:
    stored = _model_sizes(found)
    for name, tensor in model.items():
        if name not in stored:
            raise InputError(f"{path}: checkpoint of another model: it has no tensor {name} {tuple(tensor.size())}")
        rows, *rest = tuple(tensor.size()) or (1,)
        if grown and table_of(name) and stored[name][0] <= rows and [*stored[name][1:]] == rest:
            continue
        if stored[name] != tuple(tensor.size()):
            raise InputError(
                f"{path}: checkpoint of another model: tensor {name} is {stored[name]}, expected {tuple(tensor.size())}"
            )
    extra = sorted(stored.keys() - model.keys())
    if extra:
        raise InputError(f"{path}: checkpoint of another model: its tensor {extra[0]} is not in this model")


def _model_sizes(found: Places) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(MODEL): place.size for name, place in found.items() if name.startswith(MODEL)}


def _load_dense(stored: _Checked, sharded: Sharded) -> None:
    if not stored.dense:
        sharded.dense_optimizer.clear_state()
        return
    if not sharded.dense_optimizer.state:
        # Adam's state is created by its first step.
        sharded.dense_optimizer.init_state()
    state = sharded.dense_optimizer.state_dict()["state"]
    for (name, key), held in stored.dense.items():
        state[name][key].copy_(held.whole())


def _load_sums(stored: _Checked, sharded: Sharded) -> None:
    live = {table: weight for name, weight in sharded.model.state_dict().items() if (table := table_of(name))}
    names = {table: name for name in stored.model if (table := table_of(name))}
    for table, sums in sharded.states().items():
        source, saved = stored.sums[table], stored.model[names[table]].columns
        cut, count = _columns(live[table]), live[table].size(0)
        pieces = [((0,), sums)] if not isinstance(sums, ShardedTensor) else _shards(sums)
        for (at,), held in pieces:
            columns, row = cut[at // count], at % count
            shared = torch.tensor([len(_overlap(columns, each)) for each in saved], dtype=torch.float64)
            overlapped = range(int(shared.nonzero()[0]), int(shared.nonzero()[-1]) + 1)
            shares = shared[overlapped.start : overlapped.stop] / len(columns)
            for rows, cells in source.blocks(range(row, min(row + len(held), source.rows)), overlapped):
                held[rows.start - row : rows.stop - row] = (cells.double() @ shares).to(held)


def _columns(weight: Tensor) -> list[range]:
    """The column ranges that a live table is cut into, from the left."""
    if not isinstance(weight, ShardedTensor):
        return [range(weight.size(1))]
    shards = weight.metadata().shards_metadata
    cuts = {range(shard.shard_offsets[1], shard.shard_offsets[1] + shard.shard_sizes[1]) for shard in shards}
    return sorted(cuts, key=lambda cut: cut.start)


def _pieces(value: Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Corner and memory of each piece of a live tensor on this rank, as matrices."""
    if isinstance(value, ShardedTensor):
        yield from _shards(value)
    else:
        yield (0, 0), value.view(len(value), -1) if value.ndim else value.view(1, 1)


def _shards(value: ShardedTensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    for shard in value.local_shards():
        if shard.tensor.numel():  # of a table with fewer rows than ranks some hold none
            yield tuple(shard.metadata.shard_offsets), shard.tensor


def _overlap(a: range, b: range) -> range:
    return range(max(a.start, b.start), min(a.stop, b.stop))
