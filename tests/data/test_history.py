from itertools import pairwise

import numpy as np

from recsys.data import history
from recsys.data.log import Past
from recsys.data.splits import seeded_keys
from tests.data.logs import random_rows


def lists(seen: history.History, user: np.ndarray) -> tuple[list[list[int]], list[list[int]]]:
    offsets, positions = seen.of(np.arange(len(user)), user)
    bounds = list(pairwise(offsets))
    return (
        [seen.item[positions[a:b]].tolist() for a, b in bounds],
        [seen.liked[positions[a:b]].tolist() for a, b in bounds],
    )


def test_equals_brute_force() -> None:
    on = random_rows(count=800, users=20, seconds=60)
    remembered = on.item % 5 != 0
    ties = seeded_keys(800, 0)
    seen = history.build(on.user, on.item, on.time, on.label, remembered, ties, Past.none(), 20, 7)
    items, liked = lists(seen, on.user)
    for row in range(800):
        earlier = np.flatnonzero((on.user == on.user[row]) & (on.time < on.time[row]) & remembered)
        newest = earlier[np.lexsort((ties[earlier] | np.uint64(1 << 63), on.time[earlier]))][-7:]
        assert items[row] == on.item[newest].tolist()
        assert liked[row] == on.label[newest].tolist()


def test_nothing_of_the_same_second() -> None:
    user = np.zeros(4, np.int32)
    item = np.arange(4, dtype=np.int32)
    seen = history.build(
        user,
        item,
        np.array([5, 5, 6, 5], np.int64),
        np.ones(4, np.int8),
        np.ones(4, bool),
        seeded_keys(4, 0),
        Past.none(),
        1,
        9,
    )
    items, _ = lists(seen, user)
    assert items[0] == items[1] == items[3] == []
    assert sorted(items[2]) == [0, 1, 3]


def test_past_comes_first_in_its_own_order_and_not_before_its_second() -> None:
    past = Past(
        user=np.array([1, 1, 1, 0], np.int32),
        item=np.array([9, 7, 8, 6], np.int32),
        time=np.array([10, 10, 10, 10], np.int64),
        liked=np.array([1, 0, 1, 0], np.int8),
    )
    user = np.array([1, 1, 1, 0], np.int32)
    seen = history.build(
        user,
        np.array([1, 2, 3, 4], np.int32),
        np.array([10, 11, 12, 11], np.int64),
        np.zeros(4, np.int8),
        np.ones(4, bool),
        seeded_keys(4, 0),
        past,
        2,
        4,
    )
    items, liked = lists(seen, user)
    assert items == [[], [9, 7, 8, 1], [7, 8, 1, 2], [6]]
    assert liked[1] == [1, 0, 1, 0]
