"""The rivals on planted items: against scikit-learn, against brute force, and as strong as they can be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from proxy.baselines import Known, fit_all, mlp, nearest, ridge
from proxy.retrieval import find, measures
from proxy.targets import TEST, TRAIN, VALID
from tests.proxy import planted

GRID = [0.001, 0.1, 10.0]


@pytest.fixture(scope="module")
def known() -> Known:
    targets, content = planted.items(count=250, noise=0.3)
    return Known(targets, planted.frozen_vectors(content) + 7.0)


@pytest.mark.parametrize("even", [False, True])
def test_ridge_is_weighted_by_updates_and_fitted_on_training_items_alone(known: Known, even: bool) -> None:
    found = ridge(known, GRID, even)
    at = known.targets.of(TRAIN)
    weight = None if even else known.targets.updates[at]
    y = known.targets.vectors.numpy()
    reference = Ridge(alpha=found.penalty).fit(known.x[at], y[at], sample_weight=weight)
    np.testing.assert_allclose(found(known.x), reference.predict(known.x), rtol=1e-5, atol=1e-6)


def test_nearest_is_the_mean_id_of_the_nearest_training_items(known: Known) -> None:
    at, asked = known.targets.of(TRAIN), known.targets.of(TEST)
    unit = known.targets.unit.numpy()
    x = known.x + np.random.default_rng(0).normal(size=known.x.shape) / 100  # no two equally near
    centred = x - x[at].mean(axis=0)
    expected = []
    for k in (1, 5, 10, 20, 50):
        near = NearestNeighbors(n_neighbors=k, metric="cosine").fit(centred[at])
        expected.append(unit[at][near.kneighbors(centred)[1]].mean(axis=1))
    held = known.targets.of(VALID)
    aucs = []
    for each in expected:
        ranks = find(torch.from_numpy(each[held]), known.targets.unit, held)
        aucs.append(measures(ranks, len(x), [])[1].mean())
    best = expected[int(np.argmax(aucs))]
    np.testing.assert_allclose(nearest(replace(known, x=x))(x[asked]), best[asked], rtol=1e-5, atol=1e-7)


def test_the_mlp_learns_what_is_not_linear(known: Known) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(250, 3))
    y = np.stack([np.sin(2 * x[:, 0]), x[:, 1] * x[:, 2], np.abs(x[:, 0])], axis=1)
    bent = Known(replace(known.targets, vectors=torch.from_numpy(y).float()), x)
    options = planted.options(hidden=[64], new_lr=0.01, batch_size=64)
    asked = bent.targets.of(TEST)
    by_mlp = ((mlp(bent, options)(x[asked]) - y[asked]) ** 2).mean()
    by_ridge = ((ridge(bent, GRID, even=True)(x[asked]) - y[asked]) ** 2).mean()
    assert by_mlp < by_ridge / 2


def test_nothing_is_learned_from_the_items_that_are_reported_on(known: Known) -> None:
    spoiled = known.targets.vectors.clone()
    spoiled[torch.from_numpy(known.targets.of(TEST))] = 1e3
    options = planted.options()
    asked = known.x[known.targets.of(VALID)]
    before = fit_all(known, GRID, options)
    after = fit_all(replace(known, targets=replace(known.targets, vectors=spoiled)), GRID, options)
    assert list(before) == ["v1", "v2", "ridge", "ridge/even"]
    for name, guess in before.items():
        if name != "v1":  # its k is chosen by ranks among all targets, those reported on as well
            np.testing.assert_array_equal(guess(asked), after[name](asked), err_msg=name)
