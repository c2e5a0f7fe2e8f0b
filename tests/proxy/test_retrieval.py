"""Ranks of true IDs by brute force, ties as the mean over all orders, intervals by an explicit bootstrap."""

from itertools import permutations

import numpy as np
import pytest
import torch

from proxy.retrieval import Found, find, interval, measures, names

RECALL = [1, 3]


def test_ranks_are_those_of_a_full_sort() -> None:
    random = np.random.default_rng(0)
    targets, proxies = random.normal(size=(50, 6)) * 3, random.normal(size=(20, 6)) * 5
    own = random.integers(0, 50, 20)
    found = find(torch.from_numpy(proxies), torch.from_numpy(targets), own)
    norms = np.linalg.norm(proxies, axis=1)[:, None] * np.linalg.norm(targets, axis=1)
    cosines = proxies @ targets.T / norms
    rank = np.array([list(np.argsort(-row)).index(true) for row, true in zip(cosines, own, strict=True)])
    np.testing.assert_array_equal(found.above, rank)
    assert not found.equal.any()
    np.testing.assert_allclose(found.cosine, cosines[np.arange(20), own], rtol=1e-5)
    expected = [rank < 1, rank < 3, 1 / (rank + 1), 1 - rank / 49, found.cosine]
    np.testing.assert_allclose(measures(found, 50, RECALL), np.array(expected, float), rtol=1e-12)
    assert names(RECALL) == ["recall@1", "recall@3", "mrr", "auc", "cosine"]


def test_ties_count_as_the_mean_over_all_their_orders() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, 0.6], [0.8, 0.6], [0.0, 1.0]])
    found = find(torch.tensor([[1.0, 0.0]]), targets, np.array([2]))
    assert (found.above[0], found.equal[0]) == (1, 2)
    orders = [1 + order.index(2) for order in permutations([1, 2, 3])]  # item 0 comes first, item 4 last
    expected = [
        np.mean([rank < 1 for rank in orders]),
        np.mean([rank < 3 for rank in orders]),
        np.mean([1 / (rank + 1) for rank in orders]),
        np.mean([1 - rank / 4 for rank in orders]),
    ]
    np.testing.assert_allclose(measures(found, 5, RECALL)[:4, 0], expected, rtol=1e-12)


def test_proxies_that_tell_nothing_get_chance() -> None:
    targets = torch.ones(40, 3)
    found = find(torch.randn(40, 3), targets, np.arange(40))
    at_1, at_3, mrr, auc, _ = measures(found, 40, RECALL).mean(axis=1)
    assert (at_1, at_3, auc) == pytest.approx((1 / 40, 3 / 40, 0.5))
    assert mrr == pytest.approx(np.mean(1 / np.arange(1, 41)))


def test_the_interval_is_a_bootstrap_over_items() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(2, 80)) + np.array([[0.0], [5.0]])
    found = interval(values, 2000, seed=1)
    np.testing.assert_allclose(found[:, 0], values.mean(axis=1))
    means = np.array([values[:, random.integers(0, 80, 80)].mean(axis=1) for _ in range(2000)])
    np.testing.assert_allclose(found[:, 1:].T, np.quantile(means, [0.025, 0.975], axis=0), atol=0.03)
    np.testing.assert_array_equal(found, interval(values, 2000, seed=1))


def test_many_proxies_are_ranked_in_pieces_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    proxies, targets = torch.randn(300, 4), torch.randn(30, 4)
    own = np.arange(300) % 30
    whole = find(proxies, targets, own)
    monkeypatch.setattr("recsys.evaluate.topk.SCORES", 64 * 30)
    pieces: Found = find(proxies, targets, own)
    np.testing.assert_array_equal(whole.above, pieces.above)
