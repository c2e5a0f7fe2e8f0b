"""Jagged lists against Python lists."""

import numpy as np
import pytest

from recsys.data.jagged import Jagged


def jagged(lists: list[list[int]]) -> Jagged:
    flat = np.array([x for each in lists for x in each], dtype=np.int64)
    return Jagged(flat, np.cumsum([0, *map(len, lists)]))


def listed(made: Jagged) -> list[list[int]]:
    assert made.offsets[0] == 0 and made.offsets[-1] == len(made.values)
    return [made.values[start:stop].tolist() for start, stop in zip(made.offsets, made.offsets[1:], strict=False)]


@pytest.fixture
def lists() -> list[list[int]]:
    order = np.random.default_rng(1)
    return [order.integers(0, 99, k).tolist() for k in order.integers(0, 5, 40)]


def test_take_and_index(lists: list[list[int]]) -> None:
    picked = np.random.default_rng(2).integers(0, 40, 70)
    taken = jagged(lists).take(picked)
    assert listed(taken) == [lists[k] for k in picked]
    assert taken.lengths.tolist() == [len(lists[k]) for k in picked]
    where = jagged(lists).index(picked)
    assert [jagged(lists).values[each].tolist() for each in listed(where)] == [lists[k] for k in picked]


def test_take_nothing_and_only_empty_lists(lists: list[list[int]]) -> None:
    assert listed(jagged(lists).take(np.zeros(0, np.int64))) == []
    assert listed(jagged([[], [1], []]).take(np.array([0, 2, 0]))) == [[], [], []]


def test_slice(lists: list[list[int]]) -> None:
    assert listed(jagged(lists).slice(3, 17)) == lists[3:17]
    assert listed(jagged(lists).slice(5, 5)) == []


def test_concat(lists: list[list[int]]) -> None:
    parts = [lists[:9], [], lists[9:10], lists[10:]]
    assert listed(Jagged.concat([jagged(part) for part in parts])) == lists
