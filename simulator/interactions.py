"""Simulated interactions as labelled pairs of user and item.

A qualified user is a positive, one who was judged and is not qualified a negative; who was not judged and is not
qualified says nothing. The label rules ask for more:

    liked      "liked, given seen": the judged No alone are negatives. Random users would teach who interacts a lot, and
               not taste. An item of which nobody was judged (filter alone, random users) gets some all the same: the
               file has nobody from the bottom of the filter's ranking, and without a second class an item's rows tell
               nothing. So does one without a No where rows are to be balanced
    observed   "would choose": `negatives` random users for each positive as well, as in the dataset's own rows
    column     as `liked`

Random users are drawn of all who have training rows, each once for an item, and none that the item's rows name.

Legend: U users, K items, n pairs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config_simulator import Update
from recsys.data.check import same_ids
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.evaluate.positives import index
from recsys.evaluate.scores import read_groups

_COLUMNS = ["user_id", "item_id", "yes", "qualified"]
_TRIES = 100

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Labelled pairs; 17 bytes each.

    Attributes:
        users: [U] raw ids; items: [K] raw ids, sorted, each with a pair.
        user, item: [n] int64 codes, positions in them; by item, and for each the simulated before the drawn.
        label: [n] int8.
    """

    users: pa.Array
    items: pa.Array
    user: Codes
    item: Codes
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.label)

    def of_both_classes(self) -> "Interactions":
        """Without the items whose pairs have one label."""
        counts = np.bincount(self.item), np.bincount(self.item, self.label)
        both = (counts[1] > 0) & (counts[1] < counts[0])
        place = np.cumsum(both) - 1
        rows = both[self.item]
        items = self.items.filter(pa.array(both))
        return Interactions(self.users, items, self.user[rows], place[self.item[rows]], self.label[rows])


def read(path: Path, users: pa.Array, options: Update, observed: bool) -> Interactions:
    """The pairs of a `simulated.parquet`, with the random users that the label rule asks for.

    users: [U] raw ids of all who have training rows. observed: the label rule.

    Raises:
        InputError: the file is not as it should be, names a user without training rows, or has no pair that says
            anything.
    """
    listed = _read(path, users)
    known, chosen = index("user_id", users), listed["user_id"]
    user = known.rows(chosen) - 1
    if (user < 0).any():
        raise InputError(f"{path}: column user_id: {chosen[int(np.argmin(user))]} has no row in split=train")
    qualified = listed["qualified"].to_numpy()
    told = qualified | listed["yes"].is_valid().to_numpy()
    items = pc.unique(listed["item_id"].filter(pa.array(told)))
    if not len(items):
        raise InputError(f"{path}: expected pairs that were judged, or qualified without a judge; found none")
    items = items.take(pc.sort_indices(items))
    item = index("item_id", items).rows(listed["item_id"]) - 1
    label = qualified.astype(np.int8)
    draws = _draws(item[told], label[told], listed["yes"].is_valid().to_numpy()[told], len(items), options, observed)
    here = item >= 0
    drawn_user, drawn_item = _draw(draws, user[here], item[here], len(users), options.seed)
    every = [np.concatenate(pair) for pair in ((user[told], drawn_user), (item[told], drawn_item))]
    labels = np.concatenate([label[told], np.zeros(len(drawn_user), np.int8)])
    order = np.argsort(every[1], kind="stable")
    return Interactions(users, items, every[0][order], every[1][order], labels[order])


def _read(path: Path, users: pa.Array) -> pa.Table:
    parts = []
    for group, table in read_groups(path, _COLUMNS):
        where = f"{path}: row group {group}"
        for name in ("user_id", "item_id", "qualified"):
            if table[name].null_count:
                raise InputError(f"{where}: column {name!r}: expected no nulls, found {table[name].null_count}")
        if not pa.types.is_boolean(table["qualified"].type):
            raise InputError(f"{where}: column 'qualified': expected true or false, found {table['qualified'].type}")
        if not same_ids(decoded(table["user_id"]).type, users.type):
            raise InputError(f"{where}: column 'user_id': expected {users.type}, found {table['user_id'].type}")
        parts.append(pa.table([decoded(column) for column in table], names=table.column_names))
    if not parts:
        raise InputError(f"{path}: expected simulated interactions, found no rows")
    return pa.concat_tables(parts).combine_chunks()


def _draws(
    item: Codes, label: NDArray[np.int8], judged: NDArray[np.bool_], items: int, options: Update, observed: bool
) -> Codes:
    """[K] how many random users each item is to get."""
    positives = np.bincount(item, weights=label, minlength=items).astype(np.int64)
    enough = np.bincount(item, (1 - label) if options.balance else judged, items) > 0
    return np.where(observed | ~enough, options.negatives * positives, 0)


def _draw(draws: Codes, user: Codes, item: Codes, users: int, seed: int) -> tuple[Codes, Codes]:
    """Codes of drawn users and their items. An item that nearly all users are listed for may get fewer."""
    order = np.random.default_rng(seed)
    drawn_item = np.repeat(np.arange(len(draws)), draws)
    drawn = np.full(len(drawn_item), -1)
    taken = np.unique(item * users + user)
    open_ = np.arange(len(drawn))
    for _ in range(_TRIES):
        if not len(open_):
            break
        key = drawn_item[open_] * users + order.integers(users, size=len(open_))
        first = np.zeros(len(key), bool)
        first[np.unique(key, return_index=True)[1]] = True
        fresh = first & ~np.isin(key, taken)
        drawn[open_[fresh]] = key[fresh] % users
        taken = np.union1d(taken, key[fresh])
        open_ = open_[~fresh]
    return drawn[drawn >= 0], drawn_item[drawn >= 0]
