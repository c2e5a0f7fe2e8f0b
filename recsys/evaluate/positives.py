"""What is ranked, and for whom: candidate items, and who liked which of them, read from a dataset directory.

Warm items have a row in split=train. Cold items have none, and are held out or have a row in any other split: those of
valid and of test alike, since who serves does not know which of them are tested.

Interactions are read by row group. Kept are the distinct ids, 32 bytes a judged user, and 4 bytes for each
positive of theirs in any split, 4 more if it is of train or of the split judged. Until then a positive takes about 40
bytes (sorted keys and their copies), and the distinct ids a hash table.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.ids import IdMap
from recsys.data.jagged import Jagged
from recsys.data.schema import SPLITS, split_files
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.evaluate.held_out import held_out
from recsys.evaluate.scores import labelled_groups, read_groups
from recsys.evaluate.ties import Ties
from recsys.storage import Location


@dataclass(frozen=True)
class Task:
    """U users, I candidate items, and who likes what. An item's code is its column in a matrix of scores [users, I].

    The lists are [U] of item codes, int32, ascending, each once.
    """

    users: pa.Array
    """[U] raw ids of the users with a positive in the split, sorted."""
    items: pa.Array
    """[I] raw ids: the warm ones, then the cold ones, each sorted."""
    warm: int
    """How many items are warm."""
    ties: Ties
    """How equal scores rank."""
    positives: Jagged
    """Positives in the split, less those that the user also has in split=train."""
    masked: Jagged
    """Positives in split=train: what a ranking leaves out."""
    liked: Jagged
    """Positives in any split: what is never drawn as a negative."""
    repeated: int
    """Pairs of user and item left out of `positives` for being masked."""


def read_task(dataset: Location, split: str, seed: int) -> Task:
    """Candidates and positives (rows with label 1) of the split.

    Raises:
        InputError: an unknown split, a file that is not as it should be (see `labelled_groups`, `held_out`), or a split
            without a positive that could be ranked.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    items, warm = candidates(dataset)
    users = liking_users(dataset, split)
    maps = index("user_id", users), index("item_id", items)
    found = {name: pairs(dataset, name, *maps) for name in SPLITS}
    positives = np.setdiff1d(found[split], found["train"], assume_unique=True)
    if not len(positives):
        raise InputError(f"{dataset}: split {split!r} has no positive rows but those also in train: nothing to rank")
    return Task(
        users,
        items,
        warm,
        Ties.of(users, len(items), seed),
        positives=lists(positives, len(users), len(items)),
        masked=lists(found["train"], len(users), len(items)),
        liked=lists(np.unique(np.concatenate(list(found.values()))), len(users), len(items)),
        repeated=len(found[split]) - len(positives),
    )


def candidates(dataset: Location) -> tuple[pa.Array, int]:
    """Raw ids [I], the warm ones and then the cold ones, each sorted, and how many are warm.

    Raises:
        InputError: a file that is not as it should be, or no training row.
    """
    train = split_files(dataset, "train")
    others = [file for name in SPLITS if name != "train" for file in split_files(dataset, name)]
    warm = _distinct(_items(train))
    if not len(warm):
        raise InputError(f"{dataset}: split 'train' has no rows: no item is warm")
    held = (table["item_id"] for table in held_out(dataset, warm.type))
    items = _distinct([warm, *held, *(part.cast(warm.type) for part in _items(others))])
    cold = items.filter(pc.invert(pc.is_in(items, value_set=warm)))
    return pa.concat_arrays([warm, cold]), len(warm)


def _items(files: list[Location]) -> Iterator[pa.Array]:
    """The distinct items of each file."""
    return (_distinct(table["item_id"] for _, table in read_groups(file, ["item_id"])) for file in files)


def _distinct(columns: Iterable[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """The distinct ids of all columns, sorted."""
    parts = [pc.unique(decoded(column)) for column in columns]
    found = pc.unique(pa.chunked_array(parts)) if parts else pa.array([], pa.string())
    return found.take(pc.sort_indices(found))


def _liked(dataset: Location, split: str) -> Iterator[pa.Table]:
    return (table.filter(pc.equal(table["label"], 1)) for table in labelled_groups(dataset, split))


def liking_users(dataset: Location, split: str) -> pa.Array:
    """Raw ids of the users with a positive in the split, sorted.

    Raises:
        InputError: as `labelled_groups`.
    """
    return _distinct(table["user_id"] for table in _liked(dataset, split))


def index(name: str, ids: pa.Array) -> IdMap:
    """Rows 1 to n of raw ids [n]; what is not among them has row 0."""
    return IdMap(name, ids, np.zeros(len(ids), np.int64), len(ids) + 1)


def pairs(dataset: Location, split: str, users: IdMap, items: IdMap) -> NDArray[np.int64]:
    """user * I + item, positions in the maps, of every pair with a row of label 1 in the split, ascending, each once.

    Users outside of their map are left out; all items of the split must be in theirs.

    Raises:
        InputError: as `labelled_groups`.
    """
    parts = [np.zeros(0, np.int64)]
    for table in _liked(dataset, split):
        user, item = users.rows(table["user_id"]), items.rows(table["item_id"])
        parts.append((user[user > 0] - 1) * len(items.ids) + item[user > 0] - 1)
    return np.unique(np.concatenate(parts))


def takers(dataset: Location, items: pa.Array) -> NDArray[np.int64]:
    """[I] how many users have a training positive of each of the candidates `items` [I].

    Raises:
        InputError: as `labelled_groups`.
    """
    users = index("user_id", liking_users(dataset, "train"))
    found = pairs(dataset, "train", users, index("item_id", items))
    return np.bincount(found % len(items), minlength=len(items))


def lists(pairs: NDArray[np.int64], users: int, items: int) -> Jagged:
    """[users] lists of item codes, int32, from ascending keys user * items + item."""
    bounds = np.searchsorted(pairs, np.arange(users + 1, dtype=np.int64) * items)
    return Jagged((pairs % items).astype(np.int32), bounds)


def among(keys: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each of `keys`, of any shape, is one of those in the other array."""
    if not len(ascending):
        return np.zeros(keys.shape, bool)
    return ascending[np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)] == keys
