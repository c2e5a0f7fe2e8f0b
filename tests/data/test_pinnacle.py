"""Lists as of a time, against plain loops; and the leaks of published feedback lists, planted."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.config_prompt import Prompt
from recsys.data.feedback import NEVER, Feedback, Raw, build
from recsys.data.pinnacle import Lists, lists
from recsys.data.splits import keys_at

USERS, ITEMS = 25, 6


def events(rows: list[tuple[int, int, int, int, float]]) -> Raw:
    """(user, item, second, label, value) of each row of split=train."""
    user, item, time, label, value = (np.array(column) for column in zip(*rows, strict=True))
    return Raw(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        time=time.astype(np.int64),
        label=label.astype(np.int8),
        value=value.astype(np.float32),
        trained=np.ones(len(user), bool),
    )


def many(seed: int = 0, count: int = 400) -> Raw:
    """Users who come back to items, ties in second and in value, and values that are missing."""
    draw = np.random.default_rng(seed)
    value = draw.integers(1, 4, count).astype(np.float32)
    value[draw.random(count) < 0.2] = np.nan
    return Raw(
        user=draw.integers(USERS, size=count).astype(np.int32),
        item=draw.integers(ITEMS, size=count).astype(np.int32),
        time=draw.integers(100, 160, count),
        label=draw.integers(2, size=count).astype(np.int8),
        value=value,
        trained=np.ones(count, bool),
    )


def take(raw: Raw, rows: np.ndarray) -> Raw:
    return Raw(**{name: column[rows] for name, column in vars(raw).items()})


def feedback(raw: Raw) -> Feedback:
    return build(raw, USERS, ITEMS, seed=0)


def of(raw: Raw, options: Prompt, item: int, second: int, user: int = -1, whole: bool = False) -> Lists:
    """The lists of one row."""
    row = np.array([item], np.int32), np.array([second]), np.array([user], np.int32), np.array([whole])
    return lists(feedback(raw), options, *row)


def asked(raw: Raw) -> list[tuple[int, int, int]]:
    """User, item and second of each row."""
    return list(zip(raw.user.tolist(), raw.item.tolist(), raw.time.tolist(), strict=True))


def named(places: np.ndarray) -> list[int]:
    return [user for user in places.ravel().tolist() if user >= 0]


def equal(one: Lists, other: Lists) -> bool:
    return all(np.array_equal(column, vars(other)[name]) for name, column in vars(one).items())


Event = tuple[int, int, int, float]
"""Second, seeded place among those of one second, user, value."""


def plain(raw: Raw, item: int, second: int, label: int) -> list[Event]:
    """The events of a label that a row may see, newest first: of each user on the item the newest."""
    ties = keys_at(np.arange(USERS), 0).tolist()
    newest: dict[int, tuple[tuple[int, int, float], int, Event]] = {}
    for u, i, t, y, v in zip(raw.user, raw.item, raw.time, raw.label, raw.value, strict=True):
        if i == item and t < second:
            # Of one user's in one second a like counts before a dislike, and then the value.
            order = int(t), int(y), np.inf if np.isnan(v) else float(v)
            one = (order, int(y), (int(t), ties[u], int(u), float(v)))
            newest[int(u)] = max(newest.get(int(u), one), one, key=lambda found: found[0])
    return sorted((event for _, y, event in newest.values() if y == label), reverse=True)


def chosen(seen: list[Event], by: str, count: int) -> list[Event]:
    best = sorted(seen, key=lambda event: (-np.inf if np.isnan(event[3]) else event[3], *event[:2]), reverse=True)
    if by != "both":
        return (seen if by == "recency" else best)[:count]
    turns = [event for pair in zip(best, seen, strict=True) for event in pair]
    return list(dict.fromkeys(turns))[:count]


def given_up(found: list[Event], user: int, even: bool) -> list[Event]:
    """One place less: the scored user's, or the last one."""
    kept = [event for event in found if event[2] != user]
    return kept[: len(found) - 1] if even else kept


@pytest.mark.parametrize("by", ["value", "recency", "both"])
@pytest.mark.parametrize("even", [True, False])
def test_equal_plain_loops(by: str, even: bool) -> None:
    raw, options = many(), Prompt(k=4, by=by, even_lengths=even)  # type: ignore[arg-type]
    found = lists(feedback(raw), options, raw.item, raw.time, raw.user)
    lost = 0
    for row, (user, item, second) in enumerate(asked(raw)):
        seen = plain(raw, item, second, 1)
        best = given_up(chosen(seen, by, 5), user, even)[:4]
        lost += user in [event[2] for event in chosen(seen, by, 5)]
        assert named(found.pinnacle[row]) == [event[2] for event in best]
        assert found.value[row, : len(best)].tolist() == [np.nan_to_num(event[3]) for event in best]
        assert found.age[row, : len(best)].tolist() == [second - event[0] for event in best]
        assert not found.value[row, len(best) :].any() and not found.age[row, len(best) :].any()
        against = given_up(plain(raw, item, second, 0)[:5], user, even)[:4]
        assert found.negative[row, : found.explicit[row]].tolist() == [event[2] for event in against]
    assert lost > 20 and found.own.sum() >= lost


def test_a_window_takes_the_best_of_the_newest() -> None:
    raw = events([(u, 0, 10 + u, 1, 9 - u) for u in range(8)])
    assert named(of(raw, Prompt(k=2, even_lengths=False), 0, 99).pinnacle) == [0, 1]
    assert named(of(raw, Prompt(k=2, even_lengths=False, window=3), 0, 99).pinnacle) == [5, 6]


def test_both_is_half_and_half_and_nobody_twice() -> None:
    raw = events([(u, 0, 10 + u, 1, 9 - u) for u in range(8)])
    assert named(of(raw, Prompt(k=4, by="both", even_lengths=False), 0, 99).pinnacle) == [0, 7, 1, 6]
    rising = events([(u, 0, 10 + u, 1, u) for u in range(8)])
    assert named(of(rising, Prompt(k=4, by="both", even_lengths=False), 0, 99).pinnacle) == [7, 6, 5, 4]


@pytest.mark.parametrize("k", [4, 15])
def test_nothing_of_the_rows_own_second_or_later_is_seen(k: int) -> None:
    """Every user on every item at a second with events, where short lists are filled up."""
    raw, options = many(), Prompt(k=k)
    user, item = (grid.ravel().astype(np.int32) for grid in np.meshgrid(np.arange(USERS), np.arange(ITEMS)))
    rows = item, np.full(len(item), 130), user
    early = lists(feedback(take(raw, raw.time < 130)), options, *rows)
    assert (raw.time == 130).any() and (k == 4 or (early.explicit < k).all())
    assert equal(lists(feedback(raw), options, *rows), early)
    turned = replace(raw, label=np.where(raw.time < 130, raw.label, 1 - raw.label).astype(np.int8))
    assert equal(lists(feedback(turned), options, *rows), early)


def test_rows_of_one_second_in_another_order_change_nothing() -> None:
    raw, options = many(), Prompt(k=4)
    again = take(raw, np.lexsort((-np.arange(len(raw.time)), raw.time)))
    asked = raw.item, raw.time, raw.user
    assert equal(lists(feedback(raw), options, *asked), lists(feedback(again), options, *asked))


def test_ties_do_not_go_by_the_item() -> None:
    rows = [(u, i, 10, 1, 5.0) for u in range(USERS) for i in (1, 4)]
    other = [of(events(rows), Prompt(k=9), item, 11).pinnacle.tolist() for item in (1, 4)]
    assert other[0] == other[1] != [list(range(9))]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
@pytest.mark.parametrize("label", [0, 1])
def test_the_scored_user_is_in_no_list_and_its_length_does_not_tell(count: int, label: int) -> None:
    """With every event three times: the published lists hold the user of a positive, at its own event or an older."""
    raw = events([(u, 0, 10 * turn + u, label, u % 3) for u in range(count) for turn in range(3)])
    options, everybody = Prompt(k=4), np.arange(USERS, dtype=np.int32)
    item, second = np.zeros(USERS, np.int32), np.full(USERS, 99)
    for whole in (False, True):
        found = lists(feedback(raw), options, item, second, everybody, np.full(USERS, whole))
        named_users = found.pinnacle if label else found.negative
        assert not (named_users == everybody[:, None]).any() and not (found.negative == everybody[:, None]).any()
        length = found.taken.sum(axis=1) if label else found.explicit
        assert set(length.tolist()) == {min(count, 5) - 1}
        assert found.own.sum() == min(count, 5)


def test_short_lists_are_padded_by_nobody() -> None:
    raw = events([(3, 0, 10, 1, 5.0), (4, 0, 11, 1, 4.0), (5, 0, 12, 0, 1.0)])
    found = of(raw, Prompt(k=6, even_lengths=False), 0, 99)
    assert found.pinnacle.tolist() == [[3, 4, -1, -1, -1, -1]] and found.taken.tolist() == [[True] * 2 + [False] * 4]
    none = of(raw, Prompt(k=6), 2, 99)
    assert none.pinnacle.tolist() == [[-1] * 6] and not none.value.any() and none.explicit.tolist() == [0]
    assert equal(of(raw, Prompt(k=6), -1, 5), of(raw, Prompt(k=6), 0, 5))  # unknown item; nobody known yet


@pytest.mark.parametrize("value", [float("nan"), 4.0])
def test_values_all_null_or_all_equal_leave_recency(value: float) -> None:
    raw = events([(u, 0, 10 + u, 1, value) for u in range(8)])
    found = of(raw, Prompt(k=3), 0, 99)
    assert named(found.pinnacle) == [7, 6, 5]
    assert found.value.tolist() == [[np.nan_to_num(value)] * 3]


def test_whole_items_show_every_remembered_event_whatever_its_second() -> None:
    raw = events([(u, 0, 10 + u, 1, 9 - u) for u in range(4)])
    assert named(of(raw, Prompt(k=9, even_lengths=False), 0, 12, user=1).pinnacle) == [0]
    found = of(raw, Prompt(k=9, even_lengths=False), 0, 12, user=1, whole=True)
    assert named(found.pinnacle) == [0, 2, 3] and found.age[0, :3].tolist() == [2, 0, 0]


def test_drawn_negatives_are_known_by_then_and_gave_no_positive() -> None:
    raw, options = many(count=120), Prompt(k=6)
    found = lists(feedback(raw), options, raw.item, raw.time, raw.user)
    for row, (user, item, second) in enumerate(asked(raw)):
        earlier = raw.time < second
        liked = set(raw.user[earlier & (raw.item == item) & (raw.label == 1)].tolist())
        drawn = named(found.negative[row, found.explicit[row] :])
        assert set(drawn) <= set(raw.user[earlier].tolist()) - liked - {user}
        everyone = named(found.negative[row])
        assert len(everyone) == len(set(everyone)) and not set(everyone) & set(named(found.pinnacle[row]))
        if len(set(raw.user[earlier].tolist()) - liked - {user}) > 12:
            assert len(everyone) == 6
    assert (found.explicit < 6).any() and (found.negative[:, -1] >= 0).any()


def test_drawn_negatives_are_not_the_same_for_every_item_and_seed() -> None:
    raw = events([(u, 5, 1, 1, 5.0) for u in range(USERS)])
    drawn = {tuple(of(raw, Prompt(k=4, seed=seed), item, 9).negative[0]) for seed in (0, 1) for item in range(5)}
    assert len(drawn) == 10


def test_an_empty_list_is_lent_up_to_the_rows_second() -> None:
    raw = events([(1, 0, 10, 1, 5.0), (2, 0, 20, 1, 5.0), (3, 1, 15, 1, 5.0), (4, 1, 15, 0, 1.0)])
    lender = np.array([0, 0, 0, 3, 4, 5], np.int32)
    rows = np.array([1, 1, 2, 3, -1], np.int32), np.array([12, 18, 18, 18, 18]), np.array([9, 9, 1, 9, 9], np.int32)
    found = lists(feedback(raw), Prompt(k=3, even_lengths=False), *rows, np.ones(5, bool), lender)
    assert [named(row) for row in found.pinnacle] == [[3], [3], [], [], []]
    found = lists(feedback(raw), Prompt(k=3, even_lengths=False), *rows, None, lender)
    assert [named(row) for row in found.pinnacle] == [[1], [3], [], [], []]
    assert found.borrowed.tolist() == [True, False, False, False, False]
    assert found.own.tolist() == [False, False, True, False, False]
    assert named(found.negative[1, : found.explicit[1]]) == [4]


def test_one_row_at_a_time_is_the_same() -> None:
    raw, options = many(), Prompt(k=4)
    seen = feedback(raw)
    rows = np.arange(0, 400, 13)
    together = lists(seen, options, raw.item, raw.time, raw.user)[rows]
    alone = [lists(seen, options, raw.item[[row]], raw.time[[row]], raw.user[[row]]) for row in rows]
    assert equal(together, Lists.concat(alone))
    assert len(lists(seen, options, raw.item[:0], raw.time[:0], raw.user[:0]).explicit) == 0


def test_nothing_remembered_gives_empty_lists() -> None:
    nobody = take(many(), np.zeros(0, np.int64))
    found = of(nobody, Prompt(k=2), 0, NEVER)
    assert found.pinnacle.tolist() == found.negative.tolist() == [[-1, -1]]
