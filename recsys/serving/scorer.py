"""Scores of raw columns, each micro-batch by the bundle and one head of the store, or by the bundle alone.

A store that fails, or that does not fit the bundle, is left alone until `recover` finds it well again.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from torch import Tensor

from recsys.serving.overlaid import overlaid
from recsys.serving.store import Head, Store, StoreError, Tables
from recsys.tables.bundle import Bundle
from recsys.tables.lookup import IdLookup
from recsys.tables.version import Version

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Scored:
    """Of n rows.

    Attributes:
        probabilities: [n] float32.
        version: what scored them, all of them.
        stored: the store had its part in it; without it the bundle answers alone.
        unknown: rows whose item, or whose user, has no row of its own, by column.
    """

    probabilities: Tensor
    version: Version
    stored: bool
    unknown: dict[str, int]


class Scorer:
    """One thread may score while another calls `recover` or `fail`.

    Attributes:
        version: the bundle's. serves: what scores now.
        down: why the store has no part in scores; None: it has.
    """

    def __init__(self, bundle: Bundle, store: Store) -> None:
        self.bundle, self.store, self.version = bundle, store, Version(**bundle.told["origin"])
        self.serves = self.version
        self.down: str | None = "not asked yet"

    def score(self, table: pa.Table) -> Scored:
        """Probabilities of rows with the bundle's columns (`Bundle.score`).

        Raises:
            InputError: as `Bundle.score`.
        """
        found = self._read(table)
        version, tables = found or (self.version, {})
        laid = overlaid(self.bundle, tables)
        item = laid.inputs["item"]
        names = [item, *(name for name in laid.inputs["single"] if name == "user_id")]
        unknown = {name: _unknown(laid.ids[name], table[name]) for name in names}
        return Scored(laid.score(table), version, found is not None, unknown)

    def recover(self, head: Head) -> None:
        """Let the store, which was found well and at this head, have its part again.

        Raises:
            StoreError: it does not fit the bundle.
        """
        self._require_fit(head)
        if self.down is not None:
            _LOG.info("the store has its part in scores, up to delta %d", head.now.delta)
        self.down, self.serves = None, head.now

    def fail(self, reason: str) -> None:
        """Score by the bundle alone from here on."""
        if self.down is None:
            _LOG.warning("the store is down, the bundle answers alone: %s", reason)
        self.down, self.serves = reason, self.version

    def _read(self, table: pa.Table) -> tuple[Version, Tables] | None:
        """The store's version and entries of the table's ids; None: it is down."""
        if self.down is not None:
            return None
        try:
            head, tables = self.store.read(wanted(self.bundle, table))
            self._require_fit(head)
            self._require_widths(tables)
        except StoreError as error:
            self.fail(str(error))
            return None
        return head.now, tables if head.now != self.version else {}

    def _require_fit(self, head: Head) -> None:
        if not head.fits(self.version):
            raise StoreError(f"it holds {head.since} to {head.now}, the bundle is {self.version}")

    def _require_widths(self, tables: Tables) -> None:
        for name, entries in tables.items():
            found, dim = entries.vectors.shape[1], self.bundle.told["tables"][name]["dim"]
            if found != dim:
                raise StoreError(f"table {name}: expected vectors of width {dim}, found {found}")


def _unknown(ids: IdLookup, column: pa.ChunkedArray) -> int:
    return int((ids.rows(column) == ids.rows(pa.nulls(1))).sum())


def wanted(bundle: Bundle, table: pa.Table) -> dict[str, pa.Array]:
    """By table, the distinct ids [n] that scoring raw columns looks up, null (of the unknown row) always among them.

    Of a dictionary all ids.
    """
    found: dict[str, list[pa.Array]] = {}
    for column, name in _columns(bundle.inputs):
        values = table[column].combine_chunks()
        values = values.flatten() if pa.types.is_list(values.type) else values
        values = values.dictionary if pa.types.is_dictionary(values.type) else values
        kind = bundle.ids[name].kind
        found.setdefault(name, [pa.nulls(1, kind)]).append(values.cast(kind))
    return {name: pa.concat_arrays(arrays).unique() for name, arrays in found.items()}


def _columns(inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Columns of ids, and the table that they are looked up in."""
    item, history = inputs["item"], ["history"] if inputs["history"] else []
    for column in [item, *history]:
        yield column, item
    for name in (*inputs["single"], *inputs["multi"]):
        yield name, name
    if name := inputs.get("prompt"):
        yield item, name
    for name in inputs["content"]:
        for column in [item, *(history if inputs["history_content"] else [])]:
            yield column, name
