"""Negatives: never a positive, never cold, uniform over the rest."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from recsys.backbones.graph import Graph
from recsys.backbones.sample import batches, negatives
from recsys.errors import InputError
from tests.backbones import planted
from tests.evaluate import likes


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return Graph.read(planted.write(tmp_path_factory.mktemp("planted") / "data"))


def test_edges_are_the_training_positives(graph: Graph) -> None:
    user, item = graph.ends(graph.edges)
    found = set(zip(graph.users.take(user).to_pylist(), graph.items.take(item).to_pylist(), strict=True))
    assert found == {(user, item) for user, item, label in planted.rows()["train"] if label}
    assert len(found) == len(graph.edges)
    assert graph.items.to_pylist() == planted.WARM + planted.COLD and graph.warm == len(planted.WARM)


def test_an_epoch_shows_each_edge_once_and_no_negative_that_is_liked_or_cold(graph: Graph) -> None:
    liked = {(user, item) for user, item, label in planted.rows()["train"] if label}
    for epoch in range(5):
        shown = list(batches(graph, 100, 3, 0, epoch))
        user, positive, negatives_of = (np.concatenate(side) for side in zip(*shown, strict=True))
        assert np.array_equal(np.sort(user * len(graph.items) + positive), graph.edges)
        for negative in negatives_of.T:
            names = graph.users.take(user).to_pylist(), graph.items.take(negative).to_pylist()
            assert not liked & set(zip(*names, strict=True))
            assert not set(names[1]) & {*planted.COLD}
        assert {len(each[0]) for each in shown[:-1]} == {100}


def test_the_order_is_the_seeds_and_the_epochs_own(graph: Graph) -> None:
    def first(seed: int, epoch: int) -> list[list[int]]:
        return [side.tolist() for side in next(batches(graph, 100, 2, seed, epoch))]

    assert first(3, 1) == first(3, 1)
    assert first(3, 1)[:2] != first(3, 2)[:2] != first(4, 2)[:2]


def test_a_cold_item_with_an_edge_is_a_negative_of_others_and_one_without_is_not(graph: Graph) -> None:
    cold = graph.warm + np.array([0, 2])
    joined = graph.joined(np.array([5, 6, 6]), cold[[0, 0, 1]], "these edges")
    assert len(joined.edges) == len(graph.edges) + 3 and np.isin(graph.edges, joined.edges).all()
    drawn = negatives(joined, np.full(20_000, 5), np.random.default_rng(0))
    assert set(drawn[drawn >= graph.warm]) == {cold[1]}
    assert set(negatives(graph, np.full(20_000, 5), np.random.default_rng(0))) <= set(range(graph.warm))


def test_negatives_are_uniform_over_what_is_left(graph: Graph) -> None:
    drawn = negatives(graph, np.full(60_000, 7), np.random.default_rng(0))
    left = np.setdiff1d(np.arange(graph.warm), graph.ends(graph.edges)[1][graph.ends(graph.edges)[0] == 7])
    counts = np.bincount(drawn, minlength=graph.warm)
    assert counts.sum() == counts[left].sum() == 60_000
    assert len(left) == 100 and chisquare(counts[left]).pvalue > 0.01


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "split 'train' has no rows: no item is warm"),
        ([("u1", "i1", 0)], "no row of label 1: expected positives to learn from"),
        (
            [("u1", "i1", 1), ("u1", "i2", 1), ("u2", "i2", 1)],
            "user 'u1' has a training positive of each of the 2 items that could be a negative",
        ),
    ],
)
def test_a_log_that_nothing_can_be_learned_from_is_refused(
    tmp_path: Path, train: list[likes.Row], message: str
) -> None:
    splits = {"train": train, "valid": [("u1", "i3", 1)]} if train else {"valid": [("u1", "i3", 1)]}
    likes.write(tmp_path, splits, ["i3"])
    with pytest.raises(InputError, match=message):
        Graph.read(tmp_path)
