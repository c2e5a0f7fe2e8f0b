"""The test rows of new items as a log that is walked in time order: what had been seen of an item when a row came.

A row's `seen` is the number of its item's test rows of strictly earlier seconds; whoever scores it may know those and
no others. Memory: 33 bytes a row of a new item.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.schema import split_files
from recsys.data.splits import keys_at
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.storage import Location

_SALT = 6


@dataclass(frozen=True)
class Arrivals:
    """R test rows of K new items, by row id."""

    row_id: NDArray[np.int64]
    """[R] ascending."""
    item: NDArray[np.int32]
    """[R] 0 to K - 1."""
    rank: NDArray[np.int32]
    """[R] from 1: the row's place in time among its item's; rows of one second in a seeded order."""
    seen: NDArray[np.int32]
    """[R] the item's rows of strictly earlier seconds, so at most rank - 1."""


def read(dataset: Location, items: pa.Array) -> Arrivals:
    """Of split=test, streamed.

    Raises:
        InputError: a file that cannot be read or lacks a column, or no row of these items.
    """
    row_ids, codes, times, first = [], [], [], 0
    for file in split_files(dataset, "test"):
        for _, table in read_groups(file, ["item_id", "timestamp"]):
            code = pc.index_in(table["item_id"].cast(items.type), items)
            known = np.flatnonzero(code.is_valid().to_numpy())
            row_ids.append(first + known)
            codes.append(code.drop_null().to_numpy().astype(np.int32))
            times.append(table["timestamp"].to_numpy()[known])
            first += table.num_rows
    if not sum(map(len, codes)):
        raise InputError(f"{dataset}: split 'test' has no row of a new item to replay")
    row_id, item, time = (np.concatenate(parts) for parts in (row_ids, codes, times))
    return Arrivals(row_id, item, *_order(item, time, keys_at(row_id, 0, _SALT)))


def _order(
    item: NDArray[np.int32], time: NDArray[np.int64], key: NDArray[np.uint64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """[R] rank and [R] seen."""
    order = np.lexsort((key, time, item))
    of, at = item[order], time[order]
    new_item = np.r_[True, of[1:] != of[:-1]]
    new_second = new_item | np.r_[True, at[1:] != at[:-1]]
    position = np.arange(len(order))
    start = np.maximum.accumulate(np.where(new_item, position, 0))
    second = np.maximum.accumulate(np.where(new_second, position, 0))
    rank, seen = np.empty(len(order), np.int32), np.empty(len(order), np.int32)
    rank[order], seen[order] = position - start + 1, second - start
    return rank, seen
