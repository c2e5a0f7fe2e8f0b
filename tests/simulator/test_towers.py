"""The losses against their formulas, by hand."""

import numpy as np
import torch
from sklearn.metrics import log_loss
from torch import nn

from simulator import left_out, towers
from simulator.towers import Batch, ItemTowers, Pair

random = np.random.default_rng(0)


def batch(rows: int = 7, width: int = 3) -> Batch:
    return Batch(*(torch.from_numpy(random.normal(size=(rows, width))) for _ in range(4)))


def dots(made: Batch) -> list[np.ndarray]:
    user, item, other_item, other_user = (
        one.numpy() for one in (made.user, made.item, made.other_item, made.other_user)
    )
    return [np.sum(pair[0] * pair[1], axis=1) for pair in ((user, item), (user, other_item), (other_user, item))]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_ranking_is_bpr_over_items_and_over_users() -> None:
    made = batch()
    taken, other_item, other_user = dots(made)
    items, users = (-np.log(sigmoid(taken - other)).mean() for other in (other_item, other_user))
    np.testing.assert_allclose(towers.ranking(made, 0.0), items)
    np.testing.assert_allclose(towers.ranking(made, 0.3), items + 0.3 * users)


def test_clicking_is_the_log_loss_of_taken_and_not_taken() -> None:
    made = batch()
    taken, other_item, other_user = dots(made)
    for weight in (0.0, 1.0):
        scores = np.concatenate([taken, other_item, other_user])
        weights = np.repeat([1, 1 / (1 + weight), weight / (1 + weight)], 7)
        labels = np.repeat([1, 0, 0], 7)
        expected = 2 * log_loss(labels, sigmoid(scores), sample_weight=weights)  # of two halves that weigh the same
        np.testing.assert_allclose(towers.clicking(made, weight), expected)


def test_distance_and_identification_are_llm_ins_equations_12_to_14() -> None:
    made, host = batch(), batch(width=5)
    ours, theirs = dots(made), dots(host)
    expected = np.mean((theirs[0] - ours[0]) ** 2 + (theirs[1] - ours[1]) ** 2)
    np.testing.assert_allclose(towers.distance(made, host), expected)
    apart = [
        sigmoid(np.array([e @ (e - one.other_item.numpy().mean(axis=0)) for e in one.item.numpy()]))
        for one in (host, made)
    ]
    expected = -np.mean(apart[0] * np.log(apart[1]) + (1 - apart[0]) * np.log(1 - apart[1]))
    np.testing.assert_allclose(towers.identification(made, host), expected)


def test_coupled_is_the_log_loss_of_the_judges_answers() -> None:
    made, yes = batch(), np.array([1, 0, 0, 1, 1, 0, 1])
    expected = log_loss(yes, sigmoid(dots(made)[0]))
    np.testing.assert_allclose(towers.coupled(made.user, made.item, torch.from_numpy(yes).double()), expected)


def test_towers_are_perceptrons_with_the_hidden_layers_asked_for() -> None:
    pair = Pair((5, 4), [6, 3], 2)
    assert [tuple(one.weight.shape) for one in pair.user if isinstance(one, nn.Linear)] == [(6, 5), (3, 6), (2, 3)]
    line = towers.tower(4, [], 2)
    x = torch.randn(3, 4)
    assert torch.allclose(line(2 * x) - line(x), line(x) - line(0 * x), atol=1e-6)
    model = ItemTowers([pair.item, line], torch.full((4,), 2.0), torch.tensor(3.0))
    assert torch.allclose(model(x), torch.cat([pair.item((x - 2) / 3), line((x - 2) / 3)], dim=1))


def test_spread_is_the_deviation_of_scores_over_users() -> None:
    users, items = (random.normal(size=(n, 4)).astype(np.float32) + 1 for n in (30, 20))
    expected = np.sqrt(np.var(users @ items.T, axis=0).mean())
    np.testing.assert_allclose(left_out.spread(users, items), expected, rtol=1e-5)
