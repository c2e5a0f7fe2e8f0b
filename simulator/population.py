"""Who there is to play, and what each of them took: users, items and training interactions of a dataset directory.

Legend: U users, I items, M interactions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.ids import IdMap
from recsys.data.jagged import Jagged
from recsys.data.schema import read_settings, split_files
from recsys.errors import InputError
from recsys.evaluate.positives import candidates, index, lists
from recsys.evaluate.scores import read_groups


@dataclass(frozen=True, eq=False)
class Population:
    """U users and I items by code, their position in these arrays; 12 bytes an interaction.

    While it is read, an interaction takes some 40 bytes.
    """

    users: pa.Array
    """[U] raw ids of all users with a row in split=train, sorted."""
    items: pa.Array
    """[I] raw ids: the warm ones, then the cold ones, each sorted."""
    warm: int
    """How many items are warm: have a row in split=train."""
    taken: Jagged
    """[U] what each user took in split=train, oldest first: item codes int32. An item may come twice."""
    time: NDArray[np.int64]
    """[M] when, in seconds: of each value of `taken`."""

    @classmethod
    def read(cls, dataset: Path) -> "Population":
        """Taken is every logged row under the label rule `liked`, which tells apart what was seen and chosen already,
        and rows of label 1 under every other.

        Raises:
            InputError: a file that is not as it should be, or no such row.
        """
        items, warm = candidates(dataset)
        users = training_users(dataset)
        known = index("user_id", users), index("item_id", items)
        parts = [_codes(table, *known) for table in _taken(dataset, "train") if table.num_rows]
        if not parts:
            raise InputError(f"{dataset}: split 'train' has no interaction: expected rows of label 1")
        user, item, time = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((item, time, user))
        offsets = np.searchsorted(user[order], np.arange(len(users) + 1))
        return cls(users, items, warm, Jagged(item[order].astype(np.int32), offsets), time[order])

    def ignored(self, dataset: Path) -> Jagged:
        """[U] codes int32 of the distinct items that each user was shown in split=train and never took.

        These are the rows of label 0 under the label rule `column`: under the others they were taken or drawn. 16 bytes
        a row while they are read.
        """
        keys = [np.zeros(0, np.int64)]
        if read_settings(dataset).get("label.rule") == "column":
            known = index("user_id", self.users), index("item_id", self.items)
            for table in _rows(dataset, "train"):
                user, item, _ = _codes(table.filter(pc.equal(table["label"], 0)), *known)
                keys.append(user * len(self.items) + item)
        owner = np.repeat(np.arange(len(self.users)), self.taken.lengths)
        shown = np.setdiff1d(np.concatenate(keys), owner * len(self.items) + self.taken.values)
        return lists(shown, len(self.users), len(self.items))

    def held_out(self, dataset: Path) -> Jagged:
        """[U] codes int32 of the distinct cold items that each user took in split=valid and split=test."""
        known = index("user_id", self.users), index("item_id", self.items)
        keys = [np.zeros(0, np.int64)]
        for split in ("valid", "test"):
            for table in _taken(dataset, split):
                user, item, _ = _codes(table, *known)
                kept = (user >= 0) & (item >= self.warm)
                keys.append(user[kept] * len(self.items) + item[kept])
        return lists(np.unique(np.concatenate(keys)), len(self.users), len(self.items))

    @property
    def cold(self) -> NDArray[np.int64]:
        """Codes of the items without a row in split=train."""
        return np.arange(self.warm, len(self.items))

    def popularity(self) -> NDArray[np.int64]:
        """[I] how often each item was taken."""
        return np.bincount(self.taken.values, minlength=len(self.items))


def _rows(dataset: Path, split: str) -> Iterator[pa.Table]:
    for file in split_files(dataset, split):
        for _, table in read_groups(file, ["user_id", "item_id", "timestamp", "label"]):
            yield table


def _taken(dataset: Path, split: str) -> Iterator[pa.Table]:
    """Rows that say what was taken: all of them under `liked`."""
    seen = read_settings(dataset).get("label.rule") == "liked"
    return (table if seen else table.filter(pc.equal(table["label"], 1)) for table in _rows(dataset, split))


def training_users(dataset: Path) -> pa.Array:
    """[U] raw ids of all users with a row in split=train, sorted.

    Raises:
        InputError: a file that is not as it should be, or no such row.
    """
    found = [pc.unique(table["user_id"].combine_chunks()) for table in _rows(dataset, "train")]
    if not found:
        raise InputError(f"{dataset}: split 'train' has no rows")
    users = pc.unique(pa.chunked_array(found))
    return users.take(pc.sort_indices(users))


def _codes(table: pa.Table, users: IdMap, items: IdMap) -> tuple[NDArray[np.int64], ...]:
    """User and item codes and seconds [n] of a row group."""
    user, item = users.rows(table["user_id"]) - 1, items.rows(table["item_id"]) - 1
    return user, item, table["timestamp"].to_numpy().astype(np.int64)
