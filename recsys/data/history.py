"""Histories as slices: one array of remembered events by (user, time), and for each row where its slice ends.

A row's history is the newest `longest` events of its user in a strictly smaller second. L is the history length.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recsys.data.log import Codes, Labels, Mask, Past, Seconds

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class History:
    """M remembered events by (user, time), and for each of N rows the slice of them that it may see."""

    item: Codes
    """[M]"""
    liked: Labels
    """[M] 1 liked, 0 not."""
    start: Positions
    """[U] where each user's events begin."""
    end: Positions
    """[N] the first event that the row may not see."""
    longest: int

    def of(self, rows: Positions, users: Codes) -> tuple[npt.NDArray[np.int32], Positions]:
        """Offsets int32 [len(rows) + 1] and, concatenated, the positions in `item` that make the rows' histories.

        `users` are the rows' user codes. Newest last.
        """
        end = self.end[rows]
        start = np.maximum(self.start[users], end - self.longest)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(end - start, out=offsets[1:])
        positions = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], end - start)
        return offsets.astype(np.int32), positions

    def totals(self, rows: Positions, users: Codes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """How many events each row may see in all, however old, and the share liked of them (NaN where none)."""
        start, end = self.start[users], self.end[rows]
        count = (end - start).astype(np.int32)
        liked = self.liked_before[end] - self.liked_before[start]
        with np.errstate(invalid="ignore"):
            return count, (liked / count).astype(np.float32)

    @cached_property
    def liked_before(self) -> Positions:
        """[M + 1] events liked among the first so many."""
        return np.concatenate([[0], np.cumsum(self.liked, dtype=np.int64)])


def build(
    user: Codes,
    item: Codes,
    time: Seconds,
    liked: Labels,
    remembered: Mask,
    ties: npt.NDArray[np.uint64],
    past: Past,
    users: int,
    longest: int,
) -> History:
    """Sort the remembered rows and `past` events of `users` users; rows of one second are ordered by `ties`.

    All of [N] but `past`. An event of `past` is invisible to rows of its own or an earlier second, like any other.
    """
    older = len(past.user)
    owner = np.concatenate([past.user, user])
    when = np.concatenate([past.time, time])
    order = np.lexsort((np.concatenate([np.arange(older, dtype=np.uint64), ties | np.uint64(1 << 63)]), when, owner))
    kept = np.concatenate([np.ones(older, bool), remembered])[order]
    before = np.cumsum(kept) - kept

    owner, when = owner[order], when[order]
    first = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]) | (when[1:] != when[:-1])][: len(owner)])
    visible = np.repeat(before[first], np.diff(np.r_[first, len(owner)]))
    end = np.empty(len(user), np.int64)
    is_row = order >= older
    end[order[is_row] - older] = visible[is_row]

    start = np.r_[0, np.cumsum(np.bincount(owner[kept], minlength=users))[:-1]].astype(np.int64)
    events = order[kept]
    return History(
        item=np.concatenate([past.item, item])[events],
        liked=np.concatenate([past.liked, liked])[events],
        start=start,
        end=end,
        longest=longest,
    )
