"""The six ways to divide a log into train, valid, test and feedback. Each names the items it holds out.

- `exposure`, the split of record for cold-start claims. A seeded share of the items is new. Each row is before or after
  a cut: one median second of the log (`cut: time`), or each user's own median second (`cut: user`); before means a
  strictly smaller second, so nothing of one second lies on both sides. Train: rows of the other (warm) items before the
  cut, less valid, its newest share (of each user's under `cut: user`). Test: warm rows after the cut, and rows after
  the cut of those new items that have at least `min_rows` rows before it ("scored"). Feedback: the newest
  `max(exposures)` rows before the cut of every new item, ranked from 1 = newest. Everything else of a new item is
  dropped, and no new item enters any history: the same rows are scored at every exposure.
- `cold-items` (ALDI): a seeded share of the items is cold, half of them for valid and half for test, by item; rows of
  warm items 8:1:1 at random, with at least one row of each warm user and item in train.
- `temporal`: oldest rows train, then valid, then test, never splitting a second.
- `leave-one-out` (PROMO): each user's last positive is tested, the one before it validated, what is older is trained.
  Ties in time are broken by a seeded hash. Rows later than the valid positive that are not the two targets are
  dropped (in training they would be the future).
- `warm-up` (MetaEmb, MWUF, CVAR; for comparison only, it trains on users' future): items with more than 200 rows are
  old, with 60 to 200 new, others dropped. A new item's first 60 rows by time are feedback, ranked from 1 = oldest: the
  published phases a, b, c are ranks up to 20, 40 and 60. The rest is test. Old rows train, less a random valid share.
- `daily`, for training that goes on day by day (`recsys.data.days`): of each day a random valid and a random test
  share; the rest trains.

History is made of all rows that happened strictly earlier, except that new items are masked out of it (`exposure`,
`warm-up`), and that under rules that hold out rows at random (`cold-items`, `warm-up`, `daily`) only training rows may
enter it: else the history of a later training row would show the held-out rows themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recsys.config import Split
from recsys.data.log import Codes, Labels, Mask, Seconds
from recsys.errors import InputError

DROPPED, TRAIN, VALID, TEST, FEEDBACK = -1, 0, 1, 2, 3
"""Codes of a row's split; the others are positions in `schema.SPLITS`."""

OLD_ABOVE, NEW_FROM = 200, 60
WARM_UP = (0, 20, 40, 60)
"""Rows of a new item after none, one, two and all three phases of `warm-up`."""

READS: dict[str, tuple[str, ...]] = {
    "exposure": ("cut", "new_share", "min_rows", "exposures", "valid_share"),
    "cold-items": ("new_share",),
    "temporal": ("test_share",),
    "leave-one-out": (),
    "warm-up": ("valid_share",),
    "daily": ("valid_share", "test_share"),
}
"""The settings that a rule depends on, besides the seed."""


Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The N rows that a rule looks at, and I, the number of items."""

    user: Codes
    item: Codes
    time: Seconds
    label: Labels
    items: int


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Where each of N rows goes, and what becomes of each of I items."""

    split: npt.NDArray[np.int8]
    """[N] DROPPED, TRAIN, VALID, TEST or FEEDBACK."""
    rank: npt.NDArray[np.int32]
    """[N] in what order an item's feedback counts, from 1: newest (`exposure`) or oldest (`warm-up`) first; else 0."""
    remembered: Mask
    """[N] whether the row may appear in histories."""
    group: npt.NDArray[np.str_]
    """[I] name of the held-out group, empty for an item that is not held out."""
    scored: Mask
    """[I] whether rows of a held-out item are scored."""
    masked: Mask
    """[I] whether the item is kept out of every history."""
    pool: npt.NDArray[np.int8]
    """[I] unseen items are drawn from the pool of their positive's item; -1: never drawn."""


def assign(rows: Rows, split: Split) -> Assignment:
    """Divide the rows by `split.rule`.

    Raises:
        InputError: no rows, or the rule leaves train, valid or test empty.
    """
    if not len(rows.time):
        raise InputError("the log has no rows")
    made = _RULES[split.rule](rows, split)
    for name, code in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        if not np.any(made.split == code):
            raise InputError(
                f"split rule {split.rule!r} leaves {name} empty: {len(rows.time)} rows, "
                f"{np.count_nonzero(made.group != '')} held-out items, {np.count_nonzero(made.scored)} of them scored; "
                "change data.split"
            )
    return made


def exposures(split: Split) -> list[int]:
    """Numbers of feedback rows at which the rule's scored new items are evaluated; empty: it keeps none."""
    return {"exposure": list(split.exposures), "warm-up": list(WARM_UP)}.get(split.rule, [])


def seeded_keys(count: int, seed: int, salt: int = 0) -> Keys:
    """`count` pseudo-random uint64 keys, a hash (splitmix64) of position, seed and salt."""
    return keys_at(np.arange(count), seed, salt)


def keys_at(positions: npt.NDArray[np.int64], seed: int, salt: int = 0) -> Keys:
    """The keys that `seeded_keys` has at `positions` [n], without making the others."""
    offset = np.array([(seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) % 2**64], np.uint64)
    return _mix((positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + _mix(offset))


def _mix(value: Keys) -> Keys:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _exposure(rows: Rows, split: Split) -> Assignment:
    seen = np.bincount(rows.item, minlength=rows.items) > 0
    new = _draw(seen, split.new_share, split.seed)
    after = _after_own_median(rows) if split.cut == "user" else rows.time >= _median(rows.time)
    row_new = new[rows.item]
    before = np.bincount(rows.item[~after], minlength=rows.items)
    scored = new & (before >= split.min_rows)

    code = np.full(len(rows.time), DROPPED, np.int8)
    code[~row_new & ~after] = TRAIN
    trained = np.flatnonzero(code == TRAIN)
    group = rows.user[trained] if split.cut == "user" else np.zeros(len(trained), np.int32)
    code[trained[_newest_share(group, rows.time[trained], split.valid_share)]] = VALID
    code[after & (~row_new | scored[rows.item])] = TEST

    rank = np.zeros(len(rows.time), np.int32)
    kept = np.flatnonzero(row_new & ~after)
    rank[kept] = _newest_first(rows.item[kept], rows.time[kept], seeded_keys(len(rows.time), split.seed, 2)[kept])
    rank[rank > max(split.exposures, default=0)] = 0
    code[rank > 0] = FEEDBACK
    pool = np.where(new, np.where(scored, 1, 2), 0)
    return _assignment(code, rank, ~row_new, np.where(new, "new", ""), scored, new, np.where(seen, pool, -1))


def _cold_items(rows: Rows, split: Split) -> Assignment:
    seen = np.bincount(rows.item, minlength=rows.items) > 0
    cold = _draw(seen, split.new_share, split.seed)
    tested = _draw(cold, 0.5, split.seed, salt=1)
    keys = seeded_keys(len(rows.time), split.seed, 2)
    warm = np.flatnonzero(~cold[rows.item])
    by_key = warm[np.argsort(keys[warm])]
    first_of_user = by_key[np.unique(rows.user[by_key], return_index=True)[1]]
    first_of_item = by_key[np.unique(rows.item[by_key], return_index=True)[1]]
    free = by_key[~np.isin(by_key, np.concatenate([first_of_user, first_of_item]))]
    tenth = len(warm) // 10

    code = np.full(len(rows.time), TRAIN, np.int8)
    code[free[:tenth]] = VALID
    code[free[tenth : 2 * tenth]] = TEST
    code[cold[rows.item]] = np.where(tested[rows.item], TEST, VALID)[cold[rows.item]]
    group = np.where(cold, np.where(tested, "cold-test", "cold-valid"), "")
    pool = np.where(cold, np.where(tested, 1, 2), 0)
    return _assignment(code, None, code == TRAIN, group, cold, cold, np.where(seen, pool, -1))


def _temporal(rows: Rows, split: Split) -> Assignment:
    count, ordered = len(rows.time), np.sort(rows.time)
    held = round(split.test_share * count)
    test_from = ordered[max(count - held, 0)] if held else ordered[-1] + 1
    valid_from = ordered[max(count - 2 * held, 0)] if held else ordered[-1] + 1
    code = (rows.time >= valid_from).astype(np.int8) + (rows.time >= test_from).astype(np.int8)
    return _nothing_held(rows, code)


def _leave_one_out(rows: Rows, split: Split) -> Assignment:
    order = np.lexsort((seeded_keys(len(rows.time), split.seed, 2), rows.time, rows.user))
    positives = order[rows.label[order] == 1]
    back = _positions_from_end(rows.user[positives])
    code = np.full(len(rows.time), TRAIN, np.int8)
    code[positives[back == 0]] = TEST
    code[positives[back == 1]] = VALID
    # By user, then time: a row behind one of its user's targets would be the future in training.
    first = np.full(int(rows.user.max()) + 1, len(order))
    targets = np.flatnonzero(code[order] != TRAIN)
    np.minimum.at(first, rows.user[order[targets]], targets)
    later = np.arange(len(order)) > first[rows.user[order]]
    code[order[later & (code[order] == TRAIN)]] = DROPPED
    return _nothing_held(rows, code)


def _warm_up(rows: Rows, split: Split) -> Assignment:
    count = np.bincount(rows.item, minlength=rows.items)
    old, new = count > OLD_ABOVE, (count >= NEW_FROM) & (count <= OLD_ABOVE)
    keys = seeded_keys(len(rows.time), split.seed, 2)
    code = np.full(len(rows.time), DROPPED, np.int8)
    trained = np.flatnonzero(old[rows.item])
    code[trained] = TRAIN
    code[trained[np.argsort(keys[trained])][: round(split.valid_share * len(trained))]] = VALID

    taken = np.flatnonzero(new[rows.item])
    place = _newest_first(rows.item[taken], -rows.time[taken], keys[taken])
    code[taken] = np.where(place <= WARM_UP[-1], FEEDBACK, TEST)
    rank = np.zeros(len(rows.time), np.int32)
    rank[taken] = np.where(place <= WARM_UP[-1], place, 0)
    pool = np.where(old, 0, np.where(new, 1, -1))
    return _assignment(code, rank, code == TRAIN, np.where(new, "new", ""), new, ~old, pool)


def _daily(rows: Rows, split: Split) -> Assignment:
    # By a row's place in the log, so that rows appended to it draw for themselves alone.
    drawn = (seeded_keys(len(rows.time), split.seed, 3) >> np.uint64(11)) / 2.0**53
    held = split.valid_share + split.test_share
    code = np.where(drawn < split.test_share, TEST, np.where(drawn < held, VALID, TRAIN)).astype(np.int8)
    return replace(_nothing_held(rows, code), remembered=code == TRAIN)


_RULES: dict[str, Callable[[Rows, Split], Assignment]] = {
    "exposure": _exposure,
    "cold-items": _cold_items,
    "temporal": _temporal,
    "leave-one-out": _leave_one_out,
    "warm-up": _warm_up,
    "daily": _daily,
}


def _assignment(
    code: npt.NDArray[np.int8],
    rank: npt.NDArray[np.int32] | None,
    remembered: Mask,
    group: npt.NDArray[np.str_],
    scored: Mask,
    masked: Mask,
    pool: npt.NDArray[np.int_],
) -> Assignment:
    rank = np.zeros(len(code), np.int32) if rank is None else rank
    return Assignment(
        split=code,
        rank=rank,
        remembered=remembered,
        group=group,
        scored=scored,
        masked=masked,
        pool=pool.astype(np.int8),
    )


def _nothing_held(rows: Rows, code: npt.NDArray[np.int8]) -> Assignment:
    none = np.zeros(rows.items, bool)
    pool = np.where(np.bincount(rows.item, minlength=rows.items) > 0, 0, -1)
    return _assignment(code, None, np.ones(len(code), bool), np.full(rows.items, ""), none, none, pool)


def _draw(among: Mask, share: float, seed: int, salt: int = 0) -> Mask:
    """Exactly round(share * count) of the marked items, drawn by seed."""
    marked = np.flatnonzero(among)
    chosen = np.zeros(len(among), bool)
    order = np.argsort(seeded_keys(len(among), seed, salt)[marked])
    chosen[marked[order[: round(share * len(marked))]]] = True
    return chosen


def _median(time: Seconds) -> np.int64:
    middle = len(time) // 2
    return np.partition(time, middle)[middle]


def _after_own_median(rows: Rows) -> Mask:
    """[N] whether a row is not older than the row in the middle of its user's rows by time."""
    order = np.lexsort((rows.time, rows.user))
    starts, counts = _segments(rows.user[order])
    cut = rows.time[order][starts + counts // 2]
    after = np.empty(len(order), bool)
    after[order] = rows.time[order] >= np.repeat(cut, counts)
    return after


def _newest_share(group: Codes, time: Seconds, share: float) -> Mask:
    """[M] marks at most the newest `share` of each group: the rows strictly newer than the newest one that stays."""
    if not len(group):
        return np.zeros(0, bool)
    order = np.lexsort((time, group))
    starts, counts = _segments(group[order])
    stays = np.maximum(counts - np.rint(share * counts).astype(np.int64), 1)
    bound = time[order][starts + stays - 1]
    newest = np.empty(len(order), bool)
    newest[order] = time[order] > np.repeat(bound, counts)
    return newest


def _newest_first(group: Codes, time: Seconds, keys: Keys) -> npt.NDArray[np.int32]:
    """[M] rank from 1 = newest within the group; the same second by key."""
    order = np.lexsort((keys, -time, group))
    _, counts = _segments(group[order])
    ends = np.cumsum(counts)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order)) - np.repeat(ends - counts, counts) + 1
    return rank


def _positions_from_end(group: Codes) -> npt.NDArray[np.int64]:
    """[M] for groups that lie together: 0 for the last of each, 1 for the one before it."""
    _, counts = _segments(group)
    return np.repeat(np.cumsum(counts), counts) - np.arange(len(group)) - 1


def _segments(group: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and length of each run of equal values."""
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]][: len(group)])
    return starts, np.diff(np.r_[starts, len(group)])
