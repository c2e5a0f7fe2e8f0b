"""A raw log in memory, as every source gives it: ids as int32 codes, one NumPy array a column.

About 21 bytes a row beside the context columns (strings dictionary-encoded); lists are made later, chunk by chunk.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Codes = npt.NDArray[np.int32]
Seconds = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Past:
    """P older events that are nobody's rows: they only appear in histories.

    Events of the same user and second keep their order here (oldest first).
    """

    user: Codes
    item: Codes
    time: Seconds
    liked: Labels

    @staticmethod
    def none() -> "Past":
        """No older events."""
        code, second, label = np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int8)
        return Past(user=code, item=code, time=second, liked=label)


@dataclass(frozen=True, kw_only=True)
class Log:
    """N interactions of U users with I items."""

    name: str
    source: str
    licence: str
    users: pa.Table
    """U rows: user_id and feature columns."""
    items: pa.Table
    """I rows: item_id, title, text, categories, image, first_seen and feature columns."""
    user: Codes
    """[N] row in `users`."""
    item: Codes
    """[N] row in `items`."""
    time: Seconds
    """[N] whole seconds since 1970."""
    value: npt.NDArray[np.float32]
    """[N] NaN where the log has none."""
    label: Labels | None = None
    """[N] the log's own 0/1 label, or None."""
    context: pa.Table = field(default_factory=lambda: pa.table({}))
    """N rows of further columns that are known when an item is shown (no columns: any length)."""
    past: Past = field(default_factory=Past.none)
    notes: tuple[str, ...] = ()
    """What was merged, dropped or unmatched, one line each."""

    def by_time(self) -> "Log":
        """Its rows in order of time, those of one second as they came."""
        order = np.argsort(self.time, kind="stable")
        return replace(
            self,
            user=self.user[order],
            item=self.item[order],
            time=self.time[order],
            value=self.value[order],
            label=None if self.label is None else self.label[order],
            context=self.context.take(pa.array(order)) if self.context.column_names else self.context,
        )


def items_table(columns: dict[str, pa.Array | pa.ChunkedArray | list], features: dict[str, pa.Array]) -> pa.Table:
    """The items table with the contract's columns (absent ones empty) before the feature columns."""
    count = len(columns["item_id"])
    kinds = {
        "title": pa.string(),
        "text": pa.string(),
        "categories": pa.list_(pa.string()),
        "image": pa.binary(),
        "first_seen": pa.int64(),
    }
    table: dict[str, pa.Array | pa.ChunkedArray] = {"item_id": columns["item_id"]}
    for name, kind in kinds.items():
        found = columns.get(name)
        if found is None:
            found = pa.array([""] * count, kind) if kind == pa.string() else pa.nulls(count, kind)
        elif isinstance(found, list):
            found = pa.array(found, kind)
        table[name] = found
    return pa.table(table | features)
