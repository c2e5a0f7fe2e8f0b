"""Deltas into a checkpoint on disk, without a model: a copy of its files with the rows named written over.

    <run>/checkpoints/step-00000400.d00000007/    step-00000400 with the deltas up to 7

The copy is a checkpoint like any other, by `torch.distributed.checkpoint`; files that hold no row of a delta's tables
are linked, not copied. Rows are written a piece at a time, in place, so memory does not grow with table or delta.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.files import beside, discard, sync
from recsys.tables import checkpoint, manifest
from recsys.tables.archive import resum
from recsys.tables.delta import Delta
from recsys.tables.order import MAX_STALENESS, accepts, after
from recsys.tables.piece import Piece
from recsys.tables.places import FORMAT, Chunk, Places
from recsys.tables.sharding import table_of
from recsys.tables.stored import MODEL, ROWS, Shard, StoredTensor, tensors


def patch(source: Path, deltas: list[Delta], force: bool = False, stale: int = MAX_STALENESS) -> Path:
    """Give a checkpoint those of `deltas`, in order, that it does not hold yet, all or none.

    Returns:
        The checkpoint that has taken its place; `source` itself where there was nothing to take.

    Raises:
        InputError: a delta is damaged or not for these tables, or the checkpoint is damaged; it is as it was.
    """
    version, taken = checkpoint.version_of(source), []
    held = version.delta
    for each in deltas:
        if each.steps:
            raise InputError(
                f"{each.folder}: what training changed is for bundles: {source} has a dense part of its own"
            )
        if accepts(version, each, str(source), force or each.forced, stale):
            version = after(version, each)
            taken.append(each)
    if not taken:
        return source
    told = manifest.verify(source, FORMAT)
    found = tensors(source)
    for each in taken:
        require_fit(source, each)
    progress = checkpoint.progress_of(source)
    target = checkpoint.place(source.parent, progress.step, version.delta)
    with beside(target) as partial:
        touched = {chunk.file for chunk in _chunks(found, taken)}
        for name in told["files"]:
            _copy(source / name, partial / name, name in touched)
        for each in taken:
            _write(partial, found, each, held)
        for chunk in _chunks(found, taken):
            with (partial / chunk.file).open("r+b") as file:
                resum(file, chunk.offset, chunk.length)
        stamps = {name: told["files"][name] for name in told["files"].keys() - touched}
        for name in sorted(touched):
            sync(partial / name)
            stamps[name] = manifest.stamp(partial / name)
        checkpoint.seal(partial, target, progress, version, told["tensors"], stamps)
    if target != source:
        discard(source)
    return target


def require_fit(source: Path, each: Delta) -> None:
    """Look at every row of a delta before anything is done with it.

    Raises:
        InputError: damaged, or the checkpoint's tables cannot hold it.
    """
    found = tensors(source)
    weights = {name: _table(source, found, name)[0] for name in each.taken_by("training")}

    def look(piece: Piece) -> None:
        if piece.table not in weights:
            return
        weight, where = weights[piece.table], f"{each.folder}: table {piece.table}"
        if piece.vectors.shape[1] != weight.dim:
            raise InputError(f"{where}: expected width {weight.dim}, found {piece.vectors.shape[1]}")
        if len(piece.rows) and int(piece.rows[-1]) >= weight.rows:
            raise InputError(f"{where}: row {int(piece.rows[-1])}: it has rows 0 to {weight.rows - 1}")
        if not piece.vectors.to(weight.dtype).isfinite().all():
            raise InputError(f"{where}: a vector is not finite in {weight.dtype}")

    each.check(look)


def _table(folder: Path, found: Places, name: str) -> tuple[StoredTensor, StoredTensor]:
    """The weight [N, D] of a table and its row-wise Adagrad sums [N, c]."""
    for full in found:
        if full.startswith(MODEL) and table_of(full) == name:
            weight = StoredTensor(folder, full.removeprefix(MODEL), MODEL, found)
            return weight, StoredTensor(folder, name, ROWS, found)
    raise InputError(f"{folder}: it has no table {name}")


def _chunks(found: Places, deltas: list[Delta]) -> list[Chunk]:
    """Where the deltas' tables lie, with their sums."""
    named = {name for each in deltas for name in each.taken_by("training")}
    return [
        chunk
        for full, place in found.items()
        if (table_of(full) in named if full.startswith(MODEL) else full.startswith(ROWS) and full[len(ROWS) :] in named)
        for chunk in place.chunks
    ]


def _write(folder: Path, found: Places, each: Delta, held: int) -> None:
    for name in each.taken_by("training"):
        weight, sums = _table(folder, found, name)
        for piece in each.pieces(name, after=held):
            for tensor, values in ((weight, piece.vectors), (sums, piece.state.unsqueeze(1).expand(-1, sums.dim))):
                for shard in tensor.shards:
                    _put(shard, piece.rows, values.to(tensor.dtype))


def _put(shard: Shard, rows: Tensor, values: Tensor) -> None:
    """Write the cells that a shard holds of rows [n] with values [n, D]."""
    low, high = torch.searchsorted(rows, torch.tensor([shard.row, shard.row + shard.rows])).tolist()
    if low < high:
        part = values[low:high, shard.column : shard.column + shard.columns].numpy()
        cells = np.memmap(shard.path, part.dtype, "r+", shard.start, (shard.rows, shard.columns))
        cells[(rows[low:high] - shard.row).numpy()] = part
        cells.flush()


def _copy(source: Path, target: Path, written: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if written:
            shutil.copyfile(source, target)
        else:
            os.link(source, target)
    except OSError as error:
        if written or not source.exists():
            raise InputError(f"{source}: cannot be copied: {error}") from None
        shutil.copyfile(source, target)  # a file system without links
        sync(target)
