"""A delta as a store takes it: what becomes of ids, with those that lose their row.

The rows of a delta are in memory once, whatever its size. Legend: n rows, D table width.
"""

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.serving.store import GONE, Entries, Store
from recsys.tables import overlay
from recsys.tables.bundle import Bundle
from recsys.tables.delta import Delta
from recsys.tables.lookup import UNKNOWN, IdLookup
from recsys.tables.piece import arrow
from recsys.tables.vectors import TableVectors


def entries_of(each: Delta, after: int, bundle: Bundle, store: Store) -> dict[str, Entries]:
    """By table, what a delta makes of ids, as the bundle with the store's entries has them before.

    Args:
        after: as for `Delta.pieces`.

    Raises:
        InputError: the bundle's tables cannot take it: another width or type of ids, a row beyond the capacity, or a
            second row for an id.
        StoreError: the store's.
    """
    overlay.require_fit(bundle.folder, bundle.told, each)
    overlay.require_rows(bundle.told, each)
    return {name: _of_table(each, name, after, bundle, store) for name in each.taken_by("serving")}


def _of_table(each: Delta, name: str, after: int, bundle: Bundle, store: Store) -> Entries:
    base = bundle.ids[name]
    pieces = list(each.pieces(name, after=after))
    dim = each.tables[name].dim
    rows = torch.cat([torch.zeros(0, dtype=torch.int64), *(piece.rows for piece in pieces)])
    vectors = torch.cat([torch.zeros(0, dim), *(piece.vectors for piece in pieces)])
    ids = pa.concat_arrays([pa.nulls(0, base.kind), *(piece.ids.cast(base.kind) for piece in pieces)])
    lost = _lost(each, name, base, store, rows, ids)
    kept = torch.from_dlpack(pc.or_(ids.is_valid(), pc.equal(arrow(rows), UNKNOWN)).cast(pa.uint8())).bool()
    ids = pa.concat_arrays([ids.filter(_mask(kept)), lost])
    gone = torch.full((len(lost),), GONE)
    table = bundle.vectors[name]
    held = table.held(vectors[kept]) if isinstance(table, TableVectors) else vectors[kept]
    vectors = torch.cat([held, torch.zeros(len(lost), dim)])
    return Entries(ids, torch.cat([rows[kept], gone]), vectors)


def _lost(each: Delta, name: str, base: IdLookup, store: Store, rows: Tensor, ids: pa.Array) -> pa.Array:
    """Ids [m] whose row goes to another or to nobody, and that are given none.

    Raises:
        InputError: an id would have two rows.
    """
    named = ids.drop_null()
    if pc.count_distinct(named).as_py() != len(named):
        raise InputError(f"{each.folder}: table {name}: an id has two rows")
    now = _rows_now(name, base, store, ids)
    second = (now != UNKNOWN) & (now != rows) & ~torch.isin(now, rows)
    if second.any():
        k = int(second.nonzero()[0])
        raise InputError(f"{each.folder}: table {name}: row {int(rows[k])}: {ids[k]} has row {int(now[k])} already")
    changed = rows[(now != rows) & (rows != UNKNOWN)]
    if not len(changed):
        return pa.nulls(0, base.kind)
    before = pa.concat_arrays([base.owners(changed), store.owners(name, changed).cast(base.kind)]).drop_null().unique()
    still = torch.isin(_rows_now(name, base, store, before), changed)
    return before.filter(_mask(still & ~_within(before, ids)))


def _rows_now(name: str, base: IdLookup, store: Store, ids: pa.Array) -> Tensor:
    """[n] rows of ids [n], `UNKNOWN` where they have none."""
    rows = base.rows(ids)
    held = store.read({name: ids.drop_null().unique()})[1].get(name)
    if held is None or not len(held.ids):
        return rows
    place = pc.index_in(ids, value_set=held.ids, skip_nulls=True).fill_null(-1).cast(pa.int64())
    found = torch.from_dlpack(place)
    return held.rows[found.clamp(min=0)].clamp(min=UNKNOWN).where(found >= 0, rows)


def _within(ids: pa.Array, others: pa.Array) -> Tensor:
    return torch.from_dlpack(pc.is_in(ids, value_set=others, skip_nulls=True).cast(pa.uint8())).bool()


def _mask(kept: Tensor) -> pa.Array:
    return arrow(kept.long()).cast(pa.bool_())
