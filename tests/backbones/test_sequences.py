"""What an event may know, against loops over the rows of a log with many ties in time."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from recsys.backbones.graph import Graph
from recsys.backbones.sequences import Sequences, batches, before, newest, padded
from recsys.data.jagged import Jagged
from tests.backbones import walks
from tests.data import logs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walks.write(tmp_path_factory.mktemp("walks") / "data", walks.rows())


def taken(data: Path, split: str) -> dict[str, list[tuple[int, str]]]:
    """Second and item of each user's positives in the split."""
    found = defaultdict(list)
    for row in logs.read(data, split).to_pylist():
        if row["label"]:
            found[row["user_id"]].append((row["timestamp"], row["item_id"]))
    return found


def named(graph: Graph, codes: np.ndarray) -> list[str]:
    return graph.items.take(codes.tolist()).to_pylist()


def test_a_positive_knows_what_its_user_took_in_smaller_seconds(data: Path) -> None:
    graph = Graph.read(data)
    made = Sequences.read(data, graph)
    ties = 0
    for code, user in enumerate(graph.users.to_pylist()):
        own = slice(made.items.offsets[code], made.items.offsets[code + 1])
        positives, names = taken(data, "train")[user], named(graph, made.items.values[own])
        assert sorted(names) == sorted(item for _, item in positives)
        second = {item: time for time, item in positives}
        times = [second[name] for name in names]
        assert times == sorted(times)
        assert made.known[own].tolist() == [sum(other < time for other in times) for time in times]
        ties += len(times) - len(set(times))
    assert ties > 50


def test_redrawn_the_items_of_a_second_change_places_and_nothing_else(data: Path) -> None:
    made = Sequences.read(data, Graph.read(data))
    other = made.redrawn(np.random.default_rng(0))
    user = np.repeat(np.arange(walks.USERS), made.items.lengths)
    assert np.array_equal(other.known, made.known) and np.array_equal(other.items.offsets, made.items.offsets)
    assert not np.array_equal(other.items.values, made.items.values)
    seconds = [set(zip(user, each.known, each.items.values, strict=True)) for each in (made, other)]
    assert seconds[0] == seconds[1]


@pytest.mark.parametrize("length", [1, 4, 50])
def test_each_event_is_shown_once_with_the_newest_that_it_knows(data: Path, length: int) -> None:
    made = Sequences.read(data, Graph.read(data))
    shown = list(batches(made, length, 7, np.random.default_rng(0)))
    events = np.concatenate([batch.event for batch in shown])
    assert np.array_equal(np.sort(events), np.arange(len(made.known)))
    longest = 0
    for batch in shown:
        assert len(batch.user) <= 7 and batch.history.shape[1] <= length
        for row, known, item, event in zip(batch.row, batch.known, batch.item, batch.event, strict=True):
            assert item == made.items.values[event]
            begin = made.items.offsets[batch.user[row]]
            assert begin <= event < made.items.offsets[batch.user[row] + 1]
            everything = made.items.values[begin : begin + made.known[event]].tolist()
            same = event - begin - made.known[event]  # of its own second, before it in the list
            assert min(length // 2 - same, len(everything)) <= known <= min(length, len(everything))
            assert batch.history[row, :known].tolist() == everything[len(everything) - known :]
            longest = max(longest, known)
    assert longest == min(length, made.known.max())
    order = np.concatenate([batch.user for batch in shown])
    assert not np.array_equal(order, np.sort(order))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_before_a_held_out_row_is_what_was_taken_in_smaller_seconds(data: Path, split: str) -> None:
    graph = Graph.read(data)
    sequences = Sequences.read(data, graph)
    found = before(data, split, graph, sequences)
    earlier = [taken(data, name) for name in ("train", "valid")]
    judged, ties = taken(data, split), 0
    for code, user in enumerate(graph.users.to_pylist()):
        names = named(graph, found.take(np.array([code])).values)
        positives = sorted(earlier[0][user] + earlier[1][user])
        if user in judged:
            ((second, target),) = judged[user]
            known = {item for time, item in positives if time < second}
            ties += sum(time == second for time, _ in positives)
            assert {*names} == known and len(names) == len(known) and target not in names
        else:
            assert names == named(graph, sequences.items.take(np.array([code])).values)
    assert ties > 5


def test_lists_are_filled_up_at_the_end_and_cut_at_the_beginning() -> None:
    lists = Jagged(np.arange(6), np.array([0, 1, 1, 6]))
    assert padded(lists).tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]]
    short = newest(lists, 2)
    assert short.values.tolist() == [0, 4, 5] and short.offsets.tolist() == [0, 1, 1, 3]
