"""Ridge from moments against scikit-learn: the fit, the choice of the penalty, the errors on left-out items."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from recsys.floor.ridge import fit, moments, solve

GRID = [0.001, 0.1, 1.0, 10.0]


@pytest.fixture(scope="module")
def items() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 12)) + 3.0
    y = x[:, :4] @ random.normal(size=(4, 5)) + 4.0 * random.normal(size=(60, 5)) - 2.0
    return x, y, random.integers(1, 90, 60).astype(float)


def test_it_is_weighted_ridge(items: tuple[np.ndarray, ...]) -> None:
    x, y, weight = items
    parts = [moments(x[k::3], y[k::3], weight[k::3]) for k in range(3)]
    for multiple in GRID:
        line = solve(parts[0] + parts[1] + parts[2], 12, multiple)
        reference = Ridge(alpha=line.penalty).fit(x, y, sample_weight=weight)
        np.testing.assert_allclose(line(x + 1), reference.predict(x + 1), rtol=1e-8)
        np.testing.assert_allclose(line(line.mean_x[None]), np.average(y, axis=0, weights=weight)[None], rtol=1e-10)


def test_the_penalty_knows_no_scale(items: tuple[np.ndarray, ...]) -> None:
    x, y, weight = items
    line, scaled = solve(moments(x, y, weight), 12, 0.1), solve(moments(50 * x, y, 7 * weight), 12, 0.1)
    np.testing.assert_allclose(line(x), scaled(50 * x), rtol=1e-8)


def test_the_penalty_is_chosen_on_left_out_items(items: tuple[np.ndarray, ...]) -> None:
    x, y, weight = items
    folds = [moments(x[k::5], y[k::5], weight[k::5]) for k in range(5)]
    found = fit(folds, 12, GRID)
    left = np.array([np.zeros_like(y) for _ in GRID])
    constant = np.zeros_like(y)
    for k in range(5):
        rest = np.arange(60) % 5 != k
        constant[~rest] = np.average(y[rest], axis=0, weights=weight[rest])
        for m, multiple in enumerate(GRID):
            penalty = solve(np.sum([folds[j] for j in range(5) if j != k], axis=0), 12, multiple).penalty
            left[m][~rest] = Ridge(alpha=penalty).fit(x[rest], y[rest], sample_weight=weight[rest]).predict(x[~rest])
    errors = [(weight[:, None] * (y - each) ** 2).sum() for each in [*left, constant]]
    np.testing.assert_allclose(found.errors, np.array(errors[:-1]) / errors[-1], rtol=1e-8)
    best = int(np.argmin(errors[:-1]))
    assert 0 < best < len(GRID) - 1
    assert found.penalty == pytest.approx(solve(np.sum(folds, axis=0), 12, GRID[best]).penalty)
    off = y - left[best]
    np.testing.assert_allclose(found.residual, (weight[:, None] * off).T @ off / weight.sum(), rtol=1e-7, atol=1e-9)
