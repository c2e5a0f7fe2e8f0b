"""Raw ids to table rows where only pyarrow and torch are at hand: a binary search over the sorted ids."""

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.tables.piece import arrow

UNKNOWN = 0
"""The row of an id that is null or has none of its own."""


class IdLookup:
    """Rows 1 to n of a table by the ids that own them.

    Raises:
        InputError: an id is there twice.
    """

    def __init__(self, name: str, ids: pa.Array) -> None:
        """`ids`: [n] string or int64, `ids[k]` owns row k + 1; null leaves it to nobody."""
        self.name = name
        self.kind = ids.type
        ids = ids.cast(searched(ids.type), safe=False)
        order = pc.sort_indices(ids)[: len(ids) - ids.null_count]  # nulls come last
        self.ids = ids.take(order)
        self._row = pc.add(order.cast(pa.int64()), 1)
        same = pc.equal(self.ids[1:], self.ids[:-1])
        if pc.any(same).as_py():
            raise InputError(f"table {name}: id {self.ids[pc.index(same, True).as_py()]} has two rows")

    def rows(self, ids: pa.Array | pa.ChunkedArray, column: str | None = None) -> Tensor:
        """[n] int64 rows of raw ids, `UNKNOWN` for null and for an id without a row.

        column: whose ids they are, for messages, where it is not the table's.

        Raises:
            InputError: ids of another type than the table's.
        """
        ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        kind = ids.type.value_type if pa.types.is_dictionary(ids.type) else ids.type
        if pa.types.is_null(kind) or not len(ids) or not len(self.ids):
            return torch.full((len(ids),), UNKNOWN)
        if searched(kind) != self.ids.type:
            raise InputError(f"column {(column or self.name)!r}: expected ids of type {self.kind}, found {kind}")
        # One user's history comes with each of a request's candidates: only distinct ids are searched for.
        named = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode(null_encoding="encode")
        place = places(self.ids, named.dictionary.cast(self.ids.type, safe=False))
        row = self._row.take(place).fill_null(UNKNOWN)
        return torch.from_dlpack(row.take(named.indices).fill_null(UNKNOWN))

    def owners(self, rows: Tensor) -> pa.Array:
        """[n] the ids that own rows [n] int64, of the table's type; null is nobody."""
        return self.ids.take(pc.index_in(arrow(rows), value_set=self._row)).cast(self.kind)


def places(ids: pa.Array, wanted: pa.Array) -> pa.Array:
    """[n] int64 places of `wanted` [n] in sorted `ids` without null, of the same type; null where it is not there."""
    if not len(ids):
        return pa.nulls(len(wanted), pa.int64())
    place = pc.search_sorted(ids, wanted).fill_null(0).cast(pa.int64())
    place = pc.min_element_wise(place, len(ids) - 1)
    return pc.if_else(pc.equal(ids.take(place), wanted), place, None)


def searched(kind: pa.DataType) -> pa.DataType | None:
    """The type in which ids of type `kind` are compared, whatever their width; None: they cannot be ids."""
    if pa.types.is_integer(kind):
        return pa.int64()
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pa.large_string() if text else None
