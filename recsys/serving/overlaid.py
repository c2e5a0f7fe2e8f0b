"""A bundle with a store's entries laid over it, for one micro-batch: nothing of the bundle is copied or changed.

Entries lie behind their table's last row, in the order in which the store gave them: `capacity` is the row of the
first. Legend: n ids, D table width.
"""

from copy import copy

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys.serving.store import GONE, Entries, Tables
from recsys.tables.bundle import Bundle, Vectors
from recsys.tables.lookup import UNKNOWN, IdLookup


def overlaid(bundle: Bundle, tables: Tables) -> Bundle:
    """The bundle as it scores ids that the entries hold, and ids that the store does not."""
    made = copy(bundle)
    made.ids, made.vectors = dict(bundle.ids), dict(bundle.vectors)
    for name, entries in tables.items():
        first = bundle.told["tables"][name]["capacity"]
        made.ids[name] = OverlaidIds(bundle.ids[name], entries, first)
        made.vectors[name] = OverlaidVectors(bundle.vectors[name], entries.vectors, first)
    return made


class OverlaidIds(IdLookup):
    """Ids to rows: from `first` on those of the entries, or a table's own."""

    def __init__(self, base: IdLookup, entries: Entries, first: int) -> None:
        super().__init__(base.name, entries.ids)
        self.base, place = base, first + torch.arange(len(entries.rows))
        self._laid = torch.cat([torch.tensor([UNKNOWN]), place.where(entries.rows != GONE, UNKNOWN)])
        unknown = pc.index(pc.is_null(entries.ids), True).as_py()
        self._unknown = UNKNOWN if unknown < 0 else first + unknown

    def rows(self, ids: pa.Array | pa.ChunkedArray, column: str | None = None) -> Tensor:
        """[n] int64 rows of raw ids; of an id without one that of the unknown row."""
        found = super().rows(ids, column)
        row = self._laid[found].where(found != UNKNOWN, self.base.rows(ids, column))
        return row.where(row != UNKNOWN, self._unknown)


class OverlaidVectors:
    """A table's vectors, and from row `first` on others."""

    def __init__(self, base: Vectors, vectors: Tensor, first: int) -> None:
        self.base, self.dim = base, base.dim
        self._vectors, self._first = vectors, first

    def take(self, rows: Tensor) -> Tensor:
        """[n, D] float32 vectors of rows [n] int64."""
        place = rows - self._first
        laid = place >= 0
        found = self.base.take(rows.where(~laid, UNKNOWN))
        found[laid] = self._vectors[place[laid]]
        return found
