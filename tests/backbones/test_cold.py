"""Cold vectors against the objective, item by item, and what balance means."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.backbones.cold import Comparisons, Pairs, balanced, compare, solve
from recsys.backbones.graph import Graph
from recsys.coldrows.prior import Prior
from tests.backbones import planted

WIDTH, K, REFERENCES = 4, 3, 5


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return Graph.read(planted.write(tmp_path_factory.mktemp("planted") / "data"))


def vectors(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return tuple(random.normal(size=(len(ids), WIDTH)).astype(np.float32) for ids in (graph.users, graph.items))  # type: ignore[return-value]


def pairs() -> Pairs:
    """The last item has positives alone."""
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 40).astype(np.int8)
    label[-10:] = 1
    return Pairs(random.integers(0, 60, 40), np.repeat([0, 1, 2], [15, 15, 10]), label)


def prior() -> Prior:
    random = np.random.default_rng(2)
    root = random.normal(size=(WIDTH, WIDTH))
    return Prior(torch.from_numpy(random.normal(size=(K, WIDTH))).float(), torch.from_numpy(root @ root.T))


def test_a_taken_item_is_compared_with_untaken_ones_and_an_untaken_one_with_taken(graph: Graph) -> None:
    users, items = vectors(graph)
    made = compare(graph, pairs(), users, items, 50, 0)
    for k, user in enumerate(pairs().user):
        has = graph.has(np.full(graph.warm, user), np.arange(graph.warm))
        score = items[: graph.warm] @ users[user]
        drawn = np.abs(made.reference[k].numpy()[:, None] - score).argmin(axis=1)
        np.testing.assert_allclose(score[drawn], made.reference[k], atol=1e-5)
        assert (has[drawn] != pairs().label[k]).all() and len({*drawn}) > 10
        assert made.sign[k] == (1 if pairs().label[k] else -1)


def slope(made: Comparisons, item: int, row: np.ndarray) -> np.ndarray:
    """The gradient of an item's loss, by its formula."""
    total = np.zeros(WIDTH)
    for user, where, sign, reference, weight in zip(
        made.user.numpy(), made.item, made.sign.numpy(), made.reference.numpy(), made.weight.numpy(), strict=True
    ):
        if where == item:
            for other in reference:
                total -= weight / REFERENCES * sign / (1 + np.exp(sign * (user @ row - other))) * user
    return total


def test_the_solution_is_where_the_objectives_gradient_is_zero(graph: Graph) -> None:
    made = compare(graph, pairs(), *vectors(graph), REFERENCES, 0)
    made = replace(made, weight=torch.linspace(0.5, 2, 40, dtype=torch.float64))
    found, converged = solve(made, prior(), 0.7)
    assert converged
    inverse = np.linalg.inv((prior().factor() @ prior().factor().T).numpy())
    for item in range(K):
        pull = 0.7 * inverse @ (found[item] - prior().start[item].numpy())
        at_start = np.abs(slope(made, item, prior().start[item].numpy())).max()
        np.testing.assert_allclose(slope(made, item, found[item]) + pull, 0, atol=0.02 * at_start)


def test_balanced_pairs_neither_raise_nor_lower_an_items_scores_and_one_label_says_nothing(graph: Graph) -> None:
    users, items = vectors(graph)
    made = balanced(compare(graph, pairs(), users, items, REFERENCES, 0), prior().start)
    score = np.einsum("pd,pd->p", made.user.numpy(), prior().start.numpy()[made.item.numpy()])
    wrong = 1 / (1 + np.exp(made.sign.numpy()[:, None] * (score[:, None] - made.reference.numpy())))
    push = made.weight.numpy() * made.sign.numpy() * wrong.mean(axis=1)
    np.testing.assert_allclose(np.bincount(made.item.numpy(), push), 0, atol=1e-9)
    assert (made.weight.numpy()[:30] > 0).all() and not made.weight.numpy()[30:].any()
    found, _ = solve(made, prior(), 1.0)
    assert np.array_equal(found[2], prior().start[2].numpy())
    assert np.abs(found[:2] - prior().start[:2].numpy()).min() > 1e-3
