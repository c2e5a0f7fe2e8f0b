"""Saving a sharded model: a copy is taken, then written by `torch.distributed.checkpoint` while training goes on.

    with Saver(folder, keep=3) as saver:
        saver.save(sharded, progress, version)      # returns once the copy is taken; what comes after is not in it
        ...
                                                    # the last one is on the disk when the block ends

The copy is of this rank's shards, in memory: the tables and their optimizer state are there twice from `save` until the
files are written. torch's own `async_save` takes no sharded tables.

A failure on any rank ends all of them: it is raised by the next `save` or by the end of the block, on every rank.
"""

import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter, SavePlan
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlanner, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from recsys.distributed import together
from recsys.errors import InputError
from recsys.files import sync
from recsys.tables import folders, manifest
from recsys.tables.folders import PARTIAL, Progress
from recsys.tables.locks import changing
from recsys.tables.places import of_metadata
from recsys.tables.sharding import Sharded, table_of
from recsys.tables.stored import DENSE, MODEL, ROWS
from recsys.tables.version import Version

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Piece:
    """Cells [corner, corner + shape) of a tensor of `size`: a copy in memory, on the CPU."""

    name: str
    size: tuple[int, ...]
    corner: tuple[int, ...]
    values: Tensor


def stage(sharded: Sharded) -> list[Piece]:
    """Copy what this rank is to save: its shards, and its share of what every rank holds whole.

    A table's row-wise Adagrad sums are saved as [N, c], a column for each column piece of the table.
    """
    pieces = []
    rows = {}
    for name, value in sharded.model.state_dict().items():
        pieces += [_copy(MODEL + name, tuple(value.size()), *cells) for cells in _held(MODEL + name, value)]
        if table := table_of(name):
            rows[table] = value.size(0)
    for table, sums in sharded.states().items():
        cut = sums.size(0) // rows[table]
        for (at,), values in _held(ROWS + table, sums):
            corner = at % rows[table], at // rows[table]
            pieces.append(_copy(ROWS + table, (rows[table], cut), corner, values.unsqueeze(1)))
    for name, state in sharded.dense_optimizer.state_dict()["state"].items():
        for key, value in state.items():
            full = f"{DENSE}{name}.{key}"
            pieces += [_copy(full, tuple(value.size()), *cells) for cells in _held(full, value)]
    return pieces


def save(folder: Path, sharded: Sharded, progress: Progress, keep: int, version: Version) -> Path:
    """Save model, optimizer, progress and version; drop all but the last `keep` and the best. Collective.

    Raises:
        InputError: it cannot be written; on every rank.
    """
    return _write(folder, stage(sharded), progress, keep, version, None)


class Saver:
    """Saves a run's checkpoints in the background, one at a time, over a process group of its own. Collective."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        # Its exchanges must not mix with those of the training that goes on.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(hours=1))
        self._thread: Thread | None = None
        self._failed: BaseException | None = None

    def save(self, sharded: Sharded, progress: Progress, version: Version) -> None:
        """Save as `recsys.tables.saving.save` does, once the one before is written; returns when a copy is taken.

        Raises:
            InputError: the one before could not be written; on every rank.
        """
        self.wait()
        pieces = stage(sharded)

        def work() -> None:
            try:
                _write(self.folder, pieces, progress, self.keep, version, self._group)
            except BaseException as error:
                self._failed = error
            pieces.clear()

        self._thread = Thread(target=work, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return once the last one is whole on the disk.

        Raises:
            InputError: it could not be written; on every rank.
        """
        if self._thread:
            self._thread.join()
        self._thread = None
        failed, self._failed = self._failed, None
        if failed:
            raise failed

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
            elif self._thread:
                # What has gone wrong already is what the user must hear of.
                self._thread.join()
        finally:
            dist.destroy_process_group(self._group)


def _write(
    folder: Path,
    pieces: list[Piece],
    progress: Progress,
    keep: int,
    version: Version,
    group: dist.ProcessGroup | None,
) -> Path:
    path = folders.place(folder, progress.step)
    partial = path.with_name(path.name + PARTIAL)
    first = dist.get_rank(group) == 0
    needed = torch.tensor(sum(piece.values.nbytes for piece in pieces))
    dist.all_reduce(needed, group=group)

    def begin() -> None:
        if first:
            folder.mkdir(parents=True, exist_ok=True)
            sync(folder.parent)
            with changing(folder.parent):
                folders.sweep(folder)
            partial.mkdir()

    def finish() -> None:
        if first:
            files = {name: stamp for share in shares for name, stamp in share.items()}
            with changing(folder.parent):
                folders.seal(partial, path, progress, version, of_metadata(metadata), files)
                folders.prune(folder, keep)

    try:
        together(_telling(begin, partial), group)
        metadata = together(_telling(lambda: _save(partial, pieces, group), partial), group)
        mine = sorted(partial.glob(f"__{dist.get_rank(group)}_*")) + ([partial / ".metadata"] if first else [])
        stamps = together(_telling(lambda: {file.name: manifest.stamp(file) for file in mine}, partial), group)
        shares: list[manifest.Files] = [{}] * dist.get_world_size(group)
        dist.all_gather_object(shares, stamps, group=group)
        together(_telling(finish, partial), group)
    except InputError as error:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
        raise type(error)(f"{error}; {_room(folder, int(needed))}") from None
    return path


def _room(folder: Path, needed: int) -> str:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return f"a checkpoint takes {needed / 1e6:,.1f} MB and some, {shutil.disk_usage(there).free / 1e6:,.1f} MB are free"


def _save(partial: Path, pieces: list[Piece], group: dist.ProcessGroup | None) -> Metadata:
    """Write the pieces of all ranks into the folder; where they lie. Collective."""
    try:
        return dcp.save({}, storage_writer=_Writer(partial), planner=_Planner(pieces), process_group=group)
    except CheckpointException as error:
        # All ranks have been told of all their failures: the lowest one's is raised.
        cause = error.failures[min(error.failures)][0]
        raise cause if isinstance(cause, OSError) else error from None


class _Writer(FileSystemWriter):
    """Raises what the disk has refused, rather than what torch's archive makes of it in the end."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            refused: BaseException | None = error
            while refused and not isinstance(refused, OSError):
                refused = refused.__context__
            raise refused or error from None


def _telling(work: Callable[[], T], path: Path) -> Callable[[], T]:
    """`work`, so that what the disk refuses is an error of the user's."""

    def told() -> T:
        try:
            return work()
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error}") from None

    return told


class _Planner(DefaultSavePlanner):
    """Saves pieces as they are, instead of a state dict."""

    def __init__(self, pieces: list[Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._pieces = {_index(piece): piece for piece in pieces}

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([_item(piece) for piece in self._pieces.values()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        return self._pieces[index].values


def _index(piece: Piece) -> MetadataIndex:
    return MetadataIndex(piece.name, torch.Size(piece.corner))


def _item(piece: Piece) -> WriteItem:
    chunk = ChunkStorageMetadata(torch.Size(piece.corner), piece.values.size())
    told = TensorWriteData(chunk, TensorProperties.create_from_tensor(piece.values), torch.Size(piece.size))
    return WriteItem(_index(piece), WriteItemType.SHARD, tensor_data=told)


def _held(name: str, value: ShardedTensor | Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Corner and values of each piece of a tensor that this rank is to save."""
    if isinstance(value, ShardedTensor):
        for shard in value.local_shards():
            if shard.tensor.numel():  # of a table with fewer rows than ranks some hold none
                yield tuple(shard.metadata.shard_offsets), shard.tensor
    elif zlib.crc32(name.encode()) % dist.get_world_size() == dist.get_rank():
        # Every rank has all of it: one of them saves it, told by the name.
        yield (0,) * value.ndim, value


def _copy(name: str, size: tuple[int, ...], corner: tuple[int, ...], values: Tensor) -> Piece:
    return Piece(name, size, corner, torch.empty(values.size(), dtype=values.dtype).copy_(values.detach()))
