"""What training changed between two checkpoints of a run, as a delta for bundles that hold the first.

The tables are compared where they lie, a block at a time. torchrec's delta tracker is not used: it sees the rows that
steps looked up, not those that `rows.write` or a delta put there, and none of a data-parallel table.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from recsys.data.content import COARSE, LAYERS
from recsys.data.ids import IdMap
from recsys.errors import InputError
from recsys.files import creating
from recsys.tables import checkpoint, delta, manifest
from recsys.tables.delta import Delta
from recsys.tables.piece import Piece
from recsys.tables.places import FORMAT
from recsys.tables.sharding import table_of
from recsys.tables.stored import ROWS, StoredTensor
from recsys.tables.version import Version


def diff(run: Path, base: Path, now: Path, folder: Path) -> Delta:
    """Write the rows whose vector or optimizer state differs between two checkpoints as the delta `folder`.

    Args:
        run: what the checkpoints are of; its id maps tell who owns a row.

    Raises:
        InputError: a checkpoint is damaged, they are not of one run, `now` is not the later one, a table has grown, or
            content has come in between: a bundle has fine proxies made of it, which the deltas that brought it hold and
            tables do not.
    """
    old, new = checkpoint.version_of(base), checkpoint.version_of(now)
    if (old.lineage, old.dense) != (new.lineage, new.dense):
        raise InputError(f"{now}: not of the run that {base} is of")
    if new.step < old.step or new.delta < old.delta:
        raise InputError(f"{now}: expected a later checkpoint than {base}")
    for path in (base, now):
        manifest.verify(path, FORMAT)
    names = [name for name in checkpoint.stored_tensors(now) if table_of(name)]
    sizes = checkpoint.stored_tensors(base)
    if grown := [name for name in names if sizes[name] != checkpoint.stored_tensors(now)[name]]:
        raise InputError(f"{now}: table {table_of(grown[0])} has grown since {base}: export anew")
    frozen = [name for name in names if table_of(name) in (COARSE, LAYERS)]
    if any(True for name in frozen for _ in _changed(run, base, now, name, new)):
        raise InputError(f"{now}: content has come in since {base}: give bundles the run's deltas first, then this")
    try:
        with creating(folder) as partial:
            pieces = (piece for name in names for piece in _changed(run, base, now, name, new))
            delta.write(partial, pieces, old.delta + 1, new.delta, (old.step, new.step))
    except FileExistsError:
        raise InputError(f"{folder}: there is something already: name a folder that is not there") from None
    return delta.read(folder)


def _changed(run: Path, base: Path, now: Path, name: str, version: Version) -> Iterator[Piece]:
    table = table_of(name) or ""
    ids = IdMap.load(run / "encoder" / f"{table}.parquet")
    weight, before = StoredTensor(now, name), StoredTensor(base, name)
    sums, sums_before = _Sums(now, weight, table), _Sums(base, before, table)
    for rows, vectors in weight.blocks(range(weight.rows)):
        state = sums.read(rows)
        moved = (vectors != before.read(rows)).any(1) | (state != sums_before.read(rows))
        here = moved.nonzero().squeeze(1) + rows.start
        if len(here):
            owners = ids.owners(here.numpy())
            yield Piece.of(table, here, owners, vectors[moved].float(), "trained", version, state[moved])


class _Sums:
    """A table's optimizer state [n]: of its column pieces' sums the mean by width."""

    def __init__(self, path: Path, weight: StoredTensor, table: str) -> None:
        self._stored = StoredTensor(path, table, ROWS)
        widths = torch.tensor([float(len(cut)) for cut in weight.columns])
        self._share = widths / widths.sum()

    def read(self, rows: range) -> torch.Tensor:
        return self._stored.read(rows) @ self._share
