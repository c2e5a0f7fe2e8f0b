"""Who gave an item feedback, and when: remembered events as slices of two arrays by (item, time).

A row sees the events of its item in a strictly smaller second. Of a user's several events on an item the newest that a
row can see counts, and no other.

An event takes 32 bytes, a pair of user and item with positive feedback 16 more, a user 12; building takes three times
that. Legend: M events of a kind, U users, I items, A users with training rows, P pairs, B rows.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recsys.data.history import Positions
from recsys.data.log import Codes, Labels, Mask, Seconds
from recsys.data.splits import keys_at

NEVER = np.iinfo(np.int64).max
"""A second that does not come; as a row's second, it sees every remembered event."""

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """N remembered rows in any order."""

    user: Codes
    item: Codes
    time: Seconds
    label: Labels
    value: Values
    """[N] NaN where the row has none."""
    trained: Mask
    """[N] whether the row is of split=train."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """M events of one label by (item, time), those of one second in a seeded order of their users."""

    user: Codes
    """[M]"""
    time: Seconds
    """[M]"""
    until: Seconds
    """[M] second of the user's next event on the item, of whatever label; NEVER where there is none."""
    value: Values
    """[M] NaN where it has none."""
    rank: Positions
    """[M] 0 to M - 1 by (value, place here): the highest is the best. Events without a value come below all others."""
    start: Positions
    """[I + 1] where each item's events begin."""

    @cached_property
    def replaced(self) -> bool:
        """Whether any user has a later event on the same item."""
        return bool((self.until != NEVER).any())

    def before(self, item: Codes, as_of: Seconds) -> tuple[Positions, Positions]:
        """The slices of the items' events in a second smaller than `as_of`: [B] first, [B] behind the last.

        Item -1 is one without events.
        """
        known = np.maximum(item, 0)
        first, stop = self.start[known], self.start[known + 1]
        low, high = first, np.where(item < 0, first, stop)
        while (low < high).any():
            middle = (low + high) // 2
            searched = low < high
            earlier = self.time[np.where(searched, middle, 0)] < as_of
            low, high = (
                np.where(searched & earlier, middle + 1, low),
                np.where(searched & ~earlier, middle, high),
            )
        return first, low


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """All remembered feedback of I items by U users."""

    positive: Events
    negative: Events
    arrived: Codes
    """[A] users with training rows, by the second of the first."""
    arrival: Seconds
    """[A] that second."""
    liked: Positions
    """[P] item * U + user of the pairs with positive feedback, ascending."""
    liked_from: Seconds
    """[P] the first second of it."""
    users: int

    def likes(self, user: npt.NDArray[np.integer], item: Codes, as_of: Seconds) -> Mask:
        """Whether users gave items positive feedback in a second smaller than `as_of`; shapes are broadcast."""
        keys = item.astype(np.int64) * self.users + user
        if not len(self.liked):
            return np.zeros(keys.shape, bool)
        place = np.minimum(np.searchsorted(self.liked, keys), len(self.liked) - 1)
        return (self.liked[place] == keys) & (self.liked_from[place] < as_of)


def build(raw: Raw, users: int, items: int, seed: int) -> Feedback:
    """Sort remembered rows of `users` users and `items` items; the order of the rows does not matter."""
    # What is the same in all of these keys is the same event twice.
    order = np.lexsort((raw.value, raw.label, keys_at(raw.user.astype(np.int64), seed), raw.time, raw.item))
    until = _until(raw, order)
    positive = order[raw.label[order] == 1]
    arrived, arrival = _firsts(raw.user[raw.trained].astype(np.int64), raw.time[raw.trained])
    by_arrival = np.lexsort((keys_at(arrived, seed), arrival))
    liked, liked_from = _firsts(raw.item[positive].astype(np.int64) * users + raw.user[positive], raw.time[positive])
    return Feedback(
        positive=_events(raw, positive, until, items),
        negative=_events(raw, order[raw.label[order] == 0], until, items),
        arrived=arrived[by_arrival].astype(np.int32),
        arrival=arrival[by_arrival],
        liked=liked,
        liked_from=liked_from,
        users=users,
    )


def _until(raw: Raw, order: Positions) -> Seconds:
    """[N] `Events.until` of the raw rows, of which `order` is the one by (item, time)."""
    by_pair = order[np.lexsort((raw.user[order], raw.item[order]))]  # stable: by (item, user, time)
    this, following = by_pair[:-1], by_pair[1:]
    same = (raw.item[this] == raw.item[following]) & (raw.user[this] == raw.user[following])
    until = np.full(len(order), NEVER)
    until[this[same]] = raw.time[following[same]]
    return until


def _firsts(keys: Positions, time: Seconds) -> tuple[Positions, Seconds]:
    """The distinct keys, ascending, and the first second of each."""
    order = np.lexsort((time, keys))
    distinct, first = np.unique(keys[order], return_index=True)
    return distinct, time[order[first]]


def _events(raw: Raw, rows: Positions, until: Seconds, items: int) -> Events:
    value = raw.value[rows]
    rank = np.empty(len(rows), np.int64)
    rank[np.argsort(np.where(np.isnan(value), -np.inf, value), kind="stable")] = np.arange(len(rows))
    return Events(
        user=raw.user[rows],
        time=raw.time[rows],
        until=until[rows],
        value=value,
        rank=rank,
        start=np.concatenate([[0], np.cumsum(np.bincount(raw.item[rows], minlength=items))]).astype(np.int64),
    )
