"""Raw ids to table rows: the persisted id map.

Row 0 of every table is the unknown row. A map never moves an id; `admit` gives a new id the next free row, and a row
that an evicted id has left only once all others are taken. Lookups hash once per map and touch only the distinct values
of a dictionary-encoded column, so they cost O(ids named).
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import DTypeLike

from recsys.errors import InputError
from recsys.files import replacing

UNKNOWN = 0
"""The row that stands for an unknown, missing or not admitted id."""
_FEW = 4
"""Times as many ids as are looked up: of a map that has no more, Arrow hashes all at each call, which takes a third of
the time of a lookup by pandas' kept hashes, which turns strings to Python's first."""
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class IdMap:
    """Raw ids of one column and their rows in a table of `capacity` rows.

    Attributes:
        name: the column, for messages.
        ids: [n] distinct raw ids, string or int64; `ids[k]` owns row `k + 1`, null leaves it to nobody.
        counts: [n] int64, training rows that named the id (0 for an admitted one).
        capacity: table rows, the unknown row and the free rows included.
        delta: the newest delta of the run's log whose ids are in the map; 0 is none.
    """

    name: str
    ids: pa.Array
    counts: np.ndarray
    capacity: int
    delta: int = 0

    def __post_init__(self) -> None:
        if len(self.ids) + 1 > self.capacity:
            raise InputError(
                f"{self.name}: capacity {self.capacity} is too small: {len(self.ids)} ids and the unknown row need "
                f"at least {len(self.ids) + 1}"
            )

    @classmethod
    def fit(cls, name: str, ids: pa.Array, counts: np.ndarray, capacity: int, spare: float) -> "IdMap":
        """A map of the distinct `ids` in sorted order, so that it depends on the set alone.

        Args:
            capacity: table rows; 0 leaves room for `spare` times the number of ids (at least 8 free rows).

        Raises:
            InputError: the ids and the unknown row exceed the capacity.
        """
        order = pc.sort_indices(ids)
        free = max(8, int(len(ids) * spare))
        return cls(name, ids.take(order), counts[order.to_numpy()], capacity or len(ids) + 1 + free)

    @property
    def free(self) -> int:
        """Rows that no id owns."""
        return self.capacity - 1 - len(self.ids) + self.ids.null_count

    def unowned(self) -> np.ndarray:
        """[free] int64 rows that no id owns, in the order in which they are given away."""
        left = self.ids.is_null().to_numpy(zero_copy_only=False).nonzero()[0] + 1
        return np.append(np.arange(len(self.ids) + 1, self.capacity), left)

    @cached_property
    def _index(self) -> pd.Index:
        return _indexed(self.ids.drop_null())

    @cached_property
    def _rows(self) -> np.ndarray:
        """Rows of `_index`, and behind them the unknown one."""
        owned = self.ids.is_valid().to_numpy(zero_copy_only=False).nonzero()[0] + 1
        return np.append(owned, UNKNOWN)

    def digest(self) -> str:
        """SHA-256 over the ids' own 64-bit hashes, in the order of their rows."""
        hashes = pd.util.hash_pandas_object(self.ids.to_pandas(), index=False, categorize=False)
        return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()

    def rows(self, ids: pa.Array | pa.ChunkedArray, dtype: DTypeLike = np.int64) -> np.ndarray:
        """[n] rows of raw ids, int64 or of `dtype`; `UNKNOWN` for null and for ids without a row.

        Hashes only the distinct ids of a dictionary-encoded column.

        Raises:
            InputError: the ids' type is not the map's.
        """
        ids = whole(ids)
        if isinstance(ids, pa.DictionaryArray):
            known = np.append(self.rows(ids.dictionary), UNKNOWN).astype(dtype, copy=False)
            return _picked(known, ids.indices.fill_null(len(ids.dictionary)) if ids.null_count else ids.indices)
        return self._rows_of(ids).astype(dtype, copy=False)

    def _rows_of(self, ids: pa.Array) -> np.ndarray:
        if not pa.types.is_null(ids.type) and pa.types.is_integer(ids.type) != pa.types.is_integer(self.ids.type):
            raise InputError(f"{self.name}: expected ids of type {self.ids.type}, found {ids.type}")
        if ids.null_count:
            rows = np.zeros(len(ids), dtype=np.int64)
            present = ids.is_valid().to_numpy(zero_copy_only=False)
            rows[present] = self._rows_of(ids.drop_null())
            return rows
        if len(self.ids) <= _FEW * len(ids) and ids.type == self.ids.type:
            found = pc.index_in(ids, self.ids, skip_nulls=True)
            return found.cast(pa.int64()).fill_null(-1).to_numpy() + 1
        return self._rows[self._index.get_indexer(_indexed(ids))]

    def owners(self, rows: np.ndarray) -> pa.Array:
        """The id that owns each of `rows` [n] int64; null for the unknown row and those that nobody owns."""
        owned = (rows > UNKNOWN) & (rows <= len(self.ids))
        return self.ids.take(pa.array(rows - 1, mask=~owned))

    def admit(self, ids: pa.Array, held: np.ndarray = _NONE) -> tuple["IdMap", np.ndarray]:
        """Give every new id a row that nobody owns, in the order given. Idempotent; existing ids keep their rows.

        Args:
            held: rows [m] int64 that are not to be given away, though nobody owns them.

        Returns:
            The grown map, and [n] int64 rows of `ids`: `UNKNOWN` where the capacity ran out.
        """
        unknown = pa.array(self.rows(ids) == UNKNOWN)
        free = self.unowned()
        free = free[~np.isin(free, held)]
        fresh = ids.filter(unknown).drop_null().unique()[: len(free)].cast(self.ids.type)
        grown = self.assign(free[: len(fresh)], fresh)
        return grown, grown.rows(ids)

    def grow(self, ids: pa.Array, counts: np.ndarray, spare: float | None) -> "IdMap":
        """The map once `counts` [n] more training rows have named distinct `ids` [n]; no id changes its row.

        New ids get rows in sorted order. Where they do not fit, the table grows to leave room for `spare` times its ids
        (as in `fit`); None: it stays as large as it is, and those that do not fit stay unknown.
        """
        order = pc.sort_indices(ids)
        ids, counts = ids.take(order).cast(self.ids.type), counts[order.to_numpy()]
        new, taken = int((self.rows(ids) == UNKNOWN).sum()), len(self.ids) - self.ids.null_count
        roomy = self
        if spare is not None and new > self.free:
            roomy = replace(self, capacity=len(self.ids) + new + 1 + max(8, int((taken + new) * spare)))
        grown, rows = roomy.admit(ids)
        named = grown.counts.copy()
        named[rows[rows != UNKNOWN] - 1] += counts[rows != UNKNOWN]
        return replace(grown, counts=named)

    def assign(self, rows: np.ndarray, ids: pa.Array) -> "IdMap":
        """The map in which `ids` [n] own `rows` [n] int64 and whoever had those rows has none; null leaves a row free.

        Counts of rows that change hands start from 0.

        Raises:
            InputError: a row out of range or there twice, an id there twice or owning another row as well.
        """
        wrong = (rows <= UNKNOWN) | (rows >= self.capacity)
        if wrong.any():
            raise InputError(f"{self.name}: row {rows[wrong][0]}: ids own rows 1 to {self.capacity - 1}")
        if len(np.unique(rows)) != len(rows):
            raise InputError(f"{self.name}: a row is given away twice")
        size = max(len(self.ids), int(rows.max(initial=0)))
        new = np.full(size, -1)
        new[rows - 1] = np.arange(len(rows))
        old = np.where(np.arange(size) < len(self.ids), np.arange(size), -1)
        ids = ids.cast(self.ids.type)
        given = new >= 0
        choice = np.where(given, new + len(self.ids), old)
        every = pa.concat_arrays([self.ids, ids])
        owned = every.take(pa.array(choice, mask=choice < 0))
        counts = np.append(self.counts, np.zeros(size - len(self.counts), dtype=np.int64))
        same = pc.fill_null(pc.equal(owned.take(pa.array(rows - 1)), self.owners(rows)), False)
        counts[rows[~same.to_numpy(zero_copy_only=False)] - 1] = 0
        made = replace(self, ids=owned, counts=counts)
        if not made._index.is_unique:
            twice = made._index[made._index.duplicated()][0]
            raise InputError(f"{self.name}: id {twice!r} would own two rows")
        return made

    def save(self, path: Path) -> None:
        """Write (id, row, count) as Parquet, whole or not at all."""
        rows = pa.array(np.arange(1, len(self.ids) + 1))
        table = pa.table({"id": self.ids, "row": rows, "count": self.counts})
        told = {"name": self.name, "capacity": str(self.capacity), "delta": str(self.delta)}
        table = table.replace_schema_metadata(told)
        with replacing(path) as partial:
            pq.write_table(table, partial)

    @classmethod
    def load(cls, path: Path) -> "IdMap":
        """Read a saved map.

        Raises:
            InputError: not an id map, or its rows are not 1 to n in order.
        """
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a readable id map: {error}") from None
        metadata = table.schema.metadata or {}
        if table.column_names != ["id", "row", "count"] or b"capacity" not in metadata:
            raise InputError(f"{path}: expected an id map with columns id, row, count, found {table.column_names}")
        if not np.array_equal(table["row"].to_numpy(), np.arange(1, table.num_rows + 1)):
            raise InputError(f"{path}: column row: expected 1 to {table.num_rows} in order")
        ids = table["id"].combine_chunks()
        numbers = int(metadata[b"capacity"]), int(metadata.get(b"delta", 0))
        return cls(metadata[b"name"].decode(), ids, table["count"].to_numpy(), *numbers)


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array, without a copy where it is one already."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _indexed(ids: pa.Array) -> pd.Index:
    # As objects: pandas' own type of strings takes twice as long to look up, and five times where they are few.
    values = ids.to_numpy(zero_copy_only=False)
    return pd.Index(values, dtype=values.dtype)


def _picked(known: np.ndarray, indices: pa.Array) -> np.ndarray:
    # NumPy copies int32 positions to int64 first, and takes four times as long.
    positions = indices if pa.types.is_int32(indices.type) else indices.cast(pa.int64())
    return torch.from_numpy(known).index_select(0, torch.from_dlpack(positions)).numpy()
