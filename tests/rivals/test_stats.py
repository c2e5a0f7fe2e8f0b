"""Out-of-fold means: what they are, and that a row's own label never reaches them."""

import numpy as np

from recsys.rivals.stats import ALL, FOLDS, Rates, Tallies, folds_of


def _fit(fold: np.ndarray, key: np.ndarray, label: np.ndarray, size: int) -> Rates:
    tallies = Tallies(size)
    for part in np.array_split(np.arange(len(key)), 3):
        tallies.add(fold[part], key[part], label[part])
    return tallies.close()


def test_against_brute_force() -> None:
    random = np.random.default_rng(0)
    fold, key, label = random.integers(0, FOLDS, 500), random.integers(0, 9, 500), random.integers(0, 2, 500) * 1.0
    rates = _fit(fold, key, label, 9)
    asked, keys = np.append(fold, ALL), np.append(key, 3)
    found, counts = rates.mean(asked, keys, 0.4, 5.0), rates.count(asked, keys)
    for row in range(501):
        seen = (key == keys[row]) & (fold != asked[row]) & (key > 0)
        assert np.isclose(found[row], (label[seen].sum() + 5 * 0.4) / (seen.sum() + 5))
        assert counts[row] == seen.sum()


def test_a_row_alone_with_its_id_learns_nothing() -> None:
    """The planted leak: every row has an id of its own, so a mean that held its label would be its label."""
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 400) * 1.0
    key, fold = np.arange(400) + 1, folds_of(np.arange(400), "train")
    rates = _fit(fold, key, label, 401)
    leaky = rates.mean(np.full(400, ALL), key, 0.5, 1.0)
    assert np.array_equal(leaky > 0.5, label > 0.5)
    assert (rates.mean(fold, key, 0.5, 1.0) == 0.5).all()


def test_folds_are_even_and_only_for_training_rows() -> None:
    fold = folds_of(np.arange(10_000), "train")
    assert set(fold) == set(range(FOLDS))
    assert np.bincount(fold).min() > 850
    assert np.array_equal(folds_of(np.arange(500, 700), "train"), fold[500:700])
    assert (folds_of(np.arange(10), "test") == ALL).all()
