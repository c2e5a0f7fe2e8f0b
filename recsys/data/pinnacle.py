"""Pinnacle and negative feedback of rows: who best, or last, spoke for an item by then, and who against it.

A list is made of the newest `window` events of its kind that the row may see, less those that the same user has
replaced: work and memory a row are bounded by it, however popular the item. It is exact where the item has at most
`window` earlier events of the kind.

Leaks that cannot be: nothing of the row's own second or later is seen; the scored user is in no list; and every list
gives up one place, the scored user's if that is taken and the last one otherwise, so that its length says nothing about
the user either (but see `Prompt.even_lengths`).

Legend: B rows, k places of a list, W window, C candidates.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from recsys.config_prompt import Prompt
from recsys.data import negatives
from recsys.data.feedback import NEVER, Events, Feedback, Values
from recsys.data.history import Positions
from recsys.data.log import Codes, Mask, Seconds
from recsys.data.places import NOBODY, compacted, first_time

CHUNK = 2048
"""Rows at a time: what is held beside the lists is some 40 bytes for each of CHUNK * W events (20 MiB at W = 256)."""


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Lists of B rows; the taken places of each come first. Users are codes: rows of users.parquet, from 0."""

    pinnacle: Codes
    """[B, k] users with positive feedback, best first, each once; NOBODY where there are no more."""
    value: Values
    """[B, k] the value of that feedback; 0 where it has none, and with NOBODY."""
    age: Seconds
    """[B, k] seconds from the feedback to the row, 0 where it is not earlier (`whole`) and with NOBODY."""
    negative: Codes
    """[B, k] users with explicit negative feedback, newest first, then drawn ones without a positive; else NOBODY."""
    explicit: Codes
    """[B] how many of `negative` are explicit."""
    borrowed: Mask
    """[B] whether `pinnacle` is a similar item's (equation 5)."""
    own: Mask
    """[B] whether the scored user had a place in a list and lost it."""

    @property
    def taken(self) -> Mask:
        """[B, k] which places of `pinnacle` hold a user."""
        return self.pinnacle != NOBODY

    def __getitem__(self, rows: slice | Positions) -> "Lists":
        return Lists(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    @staticmethod
    def concat(parts: "list[Lists]") -> "Lists":
        """All rows of all parts, in order; at least one part."""
        return Lists(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Lists)})


def lists(
    feedback: Feedback,
    options: Prompt,
    item: Codes,
    second: Seconds,
    user: Codes,
    whole: Mask | None = None,
    lender: Codes | None = None,
    borrows: Mask | None = None,
) -> Lists:
    """The lists of rows (item, second, user), [B] each; -1 is an item without feedback, or an unknown user.

    Args:
        whole: [B] rows that see all remembered events of their item, whatever their second: those of new items, of
            which the split itself has dropped what may not be seen (`recsys.floor.kept`).
        lender: [I] the item whose list stands in where a row sees no positive feedback (`recsys.data.similar`); its
            events are seen up to the row's second always.
        borrows: [B] rows that take the lender's; None is all of them.
    """
    whole = np.zeros(len(item), bool) if whole is None else whole
    lent = np.full(len(item), lender is not None)
    lent = lent if borrows is None else lent & borrows
    parts = [
        _lists(feedback, options, item[part], second[part], user[part], whole[part], lender, lent[part])
        for part in (slice(first, first + CHUNK) for first in range(0, max(len(item), 1), CHUNK))
    ]
    return Lists.concat(parts)


def _lists(
    feedback: Feedback,
    options: Prompt,
    item: Codes,
    second: Seconds,
    user: Codes,
    whole: Mask,
    lender: Codes | None,
    borrows: Mask,
) -> Lists:
    as_of = np.where(whole, NEVER, second)
    events = feedback.positive
    best, own = _chosen(events, options, options.by, item, as_of, user)
    borrowed = borrows & (best[:, 0] < 0)
    if lender is not None and borrowed.any():
        other = np.where(item[borrowed] < 0, NOBODY, lender[item[borrowed]])
        best[borrowed], lost = _chosen(events, options, options.by, other, second[borrowed], user[borrowed])
        own[borrowed] |= lost
        borrowed &= best[:, 0] >= 0
    pinnacle = _at(events.user, best, NOBODY)
    against, lost = _chosen(feedback.negative, options, "recency", item, as_of, user)
    negative = _at(feedback.negative.user, against, NOBODY)
    return Lists(
        pinnacle=pinnacle,
        value=np.nan_to_num(_at(events.value, best, 0)),
        age=np.where(best < 0, 0, np.maximum(second[:, None] - _at(events.time, best, 0), 0)),
        negative=negatives.fill(negative, pinnacle, feedback, item, as_of, user, options.seed),
        explicit=(against >= 0).sum(axis=1, dtype=np.int32),
        borrowed=borrowed,
        own=own | lost,
    )


def _at(column: npt.NDArray, positions: Positions, missing: int) -> npt.NDArray:
    """The column's entries at positions of any shape; `missing` at -1."""
    if not len(column):
        return np.full(positions.shape, missing, column.dtype)
    return np.where(positions < 0, np.asarray(missing, column.dtype), column[np.maximum(positions, 0)])


def _chosen(
    events: Events, options: Prompt, by: str, item: Codes, as_of: Seconds, user: Codes
) -> tuple[Positions, Mask]:
    """Positions of the listed events [B, k], -1 where no more; and [B] whether the row's user lost a place."""
    count = options.k + 1
    best = np.full((len(item), count), NOBODY, np.int64)
    first, stop = events.before(item, as_of)
    # Of events that all count, nothing older than the newest ones can be among the newest.
    all_count = by == "recency" and not events.replaced
    first = np.maximum(first, stop - (min(count, options.window) if all_count else options.window))
    for rows in _alike(stop - first):
        seen = _window(events, first[rows], stop[rows], as_of[rows])
        best[rows] = _best(events, by, seen, count)
    own = (_at(events.user, best, NOBODY) == user[:, None]) & (best >= 0)
    found = own.any(axis=1)
    kept = (best >= 0) & ~own
    if options.even_lengths:
        last = np.arange(count) == (best >= 0).sum(axis=1)[:, None] - 1
        kept &= found[:, None] | ~last
    return compacted(best, kept, options.k), found


def _alike(widths: Positions) -> list[Positions]:
    """Rows by how many events they may see, within a factor of four: padded to the longest of all, most would be
    padding. Rows that see none are in no group."""
    group = np.ceil(np.log2(np.maximum(widths, 1)) / 2)
    return [np.flatnonzero((group == each) & (widths > 0)) for each in np.unique(group[widths > 0])]


def _window(events: Events, first: Positions, stop: Positions, as_of: Seconds) -> Positions:
    """[B, W] positions of the events in the slices that rows may see, newest first; -1 in place of others."""
    positions = stop[:, None] - 1 - np.arange((stop - first).max())
    seen = positions >= first[:, None]
    if events.replaced:
        seen &= events.until[np.where(seen, positions, 0)] >= as_of[:, None]
    return np.where(seen, positions, NOBODY)


def _best(events: Events, by: str, seen: Positions, count: int) -> Positions:
    """[B, count] of `seen` the events that are listed, best first."""
    if by != "both":
        return _top(seen, events.rank if by == "value" else None, count)
    turns = np.stack([_top(seen, events.rank, count), _top(seen, None, count)], axis=2).reshape(len(seen), -1)
    return compacted(turns, first_time(turns), count)


def _top(seen: Positions, rank: Positions | None, count: int) -> Positions:
    """[B, count] of `seen` the highest by `rank`, or the newest; -1 where there are no more."""
    keys = seen if rank is None else np.where(seen < 0, NOBODY, rank[seen])
    place = torch.topk(torch.from_numpy(keys), min(count, seen.shape[1])).indices.numpy()
    best = np.take_along_axis(seen, place, axis=1)
    return np.pad(best, ((0, 0), (0, count - best.shape[1])), constant_values=NOBODY)
