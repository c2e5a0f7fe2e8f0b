"""Ranking against sampled negatives: each positive among n items drawn once for each user.

The draw depends on the dataset, the seed and the user's id alone, so that all systems, all positives of a user and
anybody who judges later see the same negatives. Notation: U users, C candidates, n negatives, p positives.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.jagged import Jagged
from recsys.data.splits import keys_at
from recsys.errors import InputError
from recsys.evaluate.ties import Ties, id_keys

SALT = 2
"""Of the hash; `recsys.evaluate.ties` takes 0 and 1."""


def draw(users: pa.Array, liked: Jagged, candidates: range, negatives: int, seed: int) -> NDArray[np.int32]:
    """[U, n] item codes, for each user (raw ids [U]) different ones of the `candidates` that are not among the liked.

    liked: [U] lists of item codes, ascending: whatever the user has a positive row for, in any split.

    Each user has an endless sequence of hashed candidates; the negatives are its first n that are different and not
    liked. Every eligible candidate is equally likely.

    Raises:
        InputError: see `require`.
    """
    require(users, liked, candidates, negatives)
    keys = id_keys(users)
    found = np.empty((len(users), negatives), np.int32)
    todo, attempts = np.arange(len(users)), 2 * negatives
    while len(todo):
        drawn = _attempts(keys[todo], candidates, attempts, seed)
        good = _first_time(drawn) & ~_among(drawn, liked.take(todo))
        done = good.sum(axis=1) >= negatives
        kept = good[done] & (np.cumsum(good[done], axis=1) <= negatives)
        found[todo[done]] = drawn[done][kept].reshape(-1, negatives)
        todo, attempts = todo[~done], 2 * attempts
    return found


def require(users: pa.Array, liked: Jagged, candidates: range, negatives: int) -> None:
    """Refuse users that n negatives cannot be drawn for; arguments as of `draw`.

    Raises:
        InputError: a user with fewer than n eligible candidates.
    """
    inside = (liked.values >= candidates.start) & (liked.values < candidates.stop)
    taken = np.diff(np.concatenate(([0], np.cumsum(inside)))[liked.offsets])
    eligible = len(candidates) - taken
    if (eligible < negatives).any():
        poorest = int(np.argmin(eligible))
        raise InputError(
            f"user {users[poorest].as_py()!r} has {eligible[poorest]} of {len(candidates)} candidates without a "
            f"positive row, evaluate.negatives asks for {negatives}"
        )


def ranks(
    scores: NDArray[np.float32],
    ties: Ties,
    row: NDArray[np.int32],
    item: NDArray[np.int32],
    users: NDArray[np.int32],
    negatives: NDArray[np.int32],
) -> NDArray[np.int32]:
    """[p] rank, from 0 to n, of each positive among its user's negatives; equal scores rank by `ties`.

    scores: [B, I]. ties: of the B users. row, item: [p] the positives' users, as rows of `scores`, and items. users:
    [u] those rows, each once, ascending. negatives: [u, n] item codes.
    """
    each = np.searchsorted(users, row)
    against, mine = scores[users[:, None], negatives][each], scores[row, item][:, None]
    before = ties.place(users[:, None], negatives)[each] < ties.place(row, item)[:, None]
    return ((against > mine) | ((against == mine) & before)).sum(axis=1, dtype=np.int32)


def _attempts(keys: NDArray[np.int64], candidates: range, attempts: int, seed: int) -> NDArray[np.int32]:
    """[u, attempts] the beginning of each user's sequence."""
    drawn = keys_at(keys[:, None] + np.arange(attempts), seed, SALT) % np.uint64(len(candidates))
    return drawn.astype(np.int32) + np.int32(candidates.start)


def _first_time(drawn: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[u, m] whether no earlier value of the row is the same."""
    by_value = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, by_value, axis=1)
    first = np.ones(drawn.shape, bool)
    np.put_along_axis(first, by_value[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    return first


def _among(drawn: NDArray[np.int32], lists: Jagged) -> NDArray[np.bool_]:
    """[u, m] whether the row's list, which ascends, holds the value."""
    width = max(drawn.max(initial=0), lists.values.max(initial=0)) + 1
    row = np.arange(len(drawn), dtype=np.int64) * width
    held = np.append(lists.values + np.repeat(row, lists.lengths), np.iinfo(np.int64).max)
    wanted = drawn + row[:, None]
    return held[np.searchsorted(held, wanted)] == wanted
