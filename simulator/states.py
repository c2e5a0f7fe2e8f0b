"""What the ranker reads of users at their newest known moment: the inputs of a simulated interaction.

A user's state is that of their newest row in split=train: its history with what was taken in that very second behind
it, totals counted on, and its own context columns.

Legend: U users, S rows of split=train in their users' newest seconds, P values of histories.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config import Data
from recsys.data.ids import IdMap
from recsys.data.schema import split_files
from recsys.data.side import decoded, lists
from recsys.evaluate.positives import index
from recsys.evaluate.scores import read_groups
from simulator.interactions import Interactions

_TAKEN = ["user_id", "item_id", "timestamp", "label", "value"]
_HISTORY = ["history", "history_label"]
_TOTALS = ["history_count", "history_liked"]


def simulated(data: Data, pairs: Interactions, part: slice, columns: list[str]) -> pa.Table:
    """[n] rows as those of a split, with those of `columns` that are known of an interaction that has not been.

    part: which of the pairs.

    Raises:
        InputError: a file that cannot be read or lacks a column.
    """
    users, place = np.unique(pairs.user[part], return_inverse=True)
    wanted = list(dict.fromkeys(["user_id", *(name for name in columns if name not in ("item_id", "label", "value"))]))
    rows = newest(data, pairs.users.take(pa.array(users)), wanted).take(pa.array(place))
    rows = rows.append_column("item_id", pairs.items.take(pa.array(pairs.item[part])))
    return rows.append_column("label", pa.array(pairs.label[part]))


def newest(data: Data, users: pa.Array, columns: list[str]) -> pa.Table:
    """[U] one row a user, in the order of `users`: `columns`, which are not of an item.

    Split=train is streamed twice; the rows of the users' newest seconds are held.

    users: [U] raw ids, each once and with a row in split=train.

    Raises:
        InputError: a file that cannot be read or lacks a column.
    """
    known = index("user_id", users)
    latest = np.full(len(users) + 1, np.iinfo(np.int64).min)
    for user, table in _rows(data, known, ["user_id", "timestamp"]):
        np.maximum.at(latest, user, table["timestamp"].to_numpy())
    wanted = list(dict.fromkeys([*_TAKEN, *columns, *(_TOTALS if {*_TOTALS} & {*columns} else [])]))
    parts, owners = [], []
    for user, table in _rows(data, known, wanted):
        now = (user > 0) & (table["timestamp"].to_numpy() == latest[user])
        parts.append(table.filter(pa.array(now)))
        owners.append(user[now] - 1)
    rows, owner = pa.concat_tables(parts).combine_chunks(), np.concatenate(owners)
    last = np.zeros(len(users), np.int64)
    last[owner] = np.arange(len(owner))
    return _counted_on(data, rows.take(pa.array(last)), rows, owner).select(columns)


def _rows(data: Data, known: IdMap, columns: list[str]) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
    """(rows [n] in the map of users, the table) of each row group of split=train."""
    for file in split_files(Path(data.path), "train"):
        for _, table in read_groups(file, columns):
            table = pa.table([decoded(column) for column in table], names=table.column_names)
            yield known.rows(table["user_id"]), table


def _counted_on(data: Data, state: pa.Table, rows: pa.Table, owner: NDArray[np.int64]) -> pa.Table:
    """States [U] with the rows [S] of their users' newest seconds in histories and totals, as far as remembered."""
    taken, liked = _remembered(data, rows)
    rows, owner, liked = rows.filter(pa.array(taken)), owner[taken], liked[taken]
    made = {}
    if "history" in state.column_names:
        made = _histories(data.history, state, rows["item_id"].combine_chunks(), liked, owner)
    if "history_count" in state.column_names:
        made |= _totals(state, liked, owner)
    for name, column in made.items():
        state = state.set_column(state.column_names.index(name), name, column)
    return state


def _remembered(data: Data, rows: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """[S] whether a row goes into later histories, and [S] whether as liked: as `recsys.data.labels` says."""
    label = rows["label"].to_numpy().astype(np.int8)
    if data.label.rule != "observed":
        return np.ones(len(label), bool), label
    value = rows["value"].fill_null(np.inf).to_numpy()
    return label == 1, (label == 1) & (value >= data.label.threshold)


def _histories(
    longest: int, state: pa.Table, items: pa.Array, liked: NDArray[np.int8], owner: NDArray[np.int64]
) -> dict[str, pa.Array]:
    """history and history_label [U] of the newest `longest` events."""
    values, offsets = lists(state["history"])
    labels = lists(state["history_label"])[0].to_numpy(zero_copy_only=False)
    owners = np.concatenate([np.repeat(np.arange(state.num_rows), np.diff(offsets)), owner])
    lengths = np.bincount(owners, minlength=state.num_rows)
    order = np.argsort(owners, kind="stable")
    place = pa.array(order[np.arange(len(order)) >= np.repeat(np.cumsum(lengths) - longest, lengths)])
    bounds = pa.array(np.append(0, np.cumsum(np.minimum(lengths, longest))).astype(np.int32))
    every = pa.concat_arrays([decoded(values), items]).take(place), np.concatenate([labels, liked])[place]
    return {
        name: pa.ListArray.from_arrays(bounds, pa.array(column)) for name, column in zip(_HISTORY, every, strict=True)
    }


def _totals(state: pa.Table, liked: NDArray[np.int8], owner: NDArray[np.int64]) -> dict[str, pa.Array]:
    """history_count and history_liked [U]."""
    count = state["history_count"].to_numpy().astype(np.int64)
    before = pc.fill_null(state["history_liked"], 0.0).to_numpy() * count
    after = count + np.bincount(owner, minlength=len(count))
    share = (before + np.bincount(owner, liked, len(count))) / np.maximum(after, 1)
    return {
        "history_count": pa.array(after.astype(np.int32)),
        "history_liked": pa.array(share.astype(np.float32), mask=after == 0),
    }
