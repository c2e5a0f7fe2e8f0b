import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from recsys.evaluate import metrics

Draw = tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int32], NDArray[np.float64]]


def draw(seed: int, rows: int = 800, users: int = 60, levels: int = 12) -> Draw:
    """Scores on few levels (many ties), labels, users (many with one class), weights (some zero)."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, rows).astype(np.int8)
    score = ((random.integers(0, levels, rows) + 2 * label) / (levels + 3)).astype(np.float32)
    user = (users * random.random(rows) ** 3).astype(np.int32)
    weight = random.poisson(1.0, rows) * random.random(rows)
    return score, label, user, weight


def gauc_by_loop(
    score: NDArray[np.float32], label: NDArray[np.int8], user: NDArray[np.int32], weight: NDArray[np.float64]
) -> tuple[float, float, int, int]:
    aucs, masses, left_out = [], [], 0
    for each in np.unique(user):
        mine = (user == each) & (weight > 0)
        if len(np.unique(label[mine])) < 2:
            left_out += 1
            continue
        aucs.append(roc_auc_score(label[mine], score[mine], sample_weight=weight[mine]))
        masses.append(weight[mine].sum())
    return float(np.average(aucs, weights=masses)), float(np.mean(aucs)), len(aucs), left_out


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [1, 3, 12, 10**6])
def test_auc_equals_sklearn_with_ties_and_weights(seed: int, levels: int) -> None:
    score, label, _, weight = draw(seed, levels=levels)
    pairs = metrics.rank(score, label)
    assert metrics.auc(pairs) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert metrics.auc(pairs, weight) == pytest.approx(roc_auc_score(label, score, sample_weight=weight), abs=1e-12)


def test_auc_with_integer_weights_equals_repeated_rows() -> None:
    score, label, _, _ = draw(1)
    times = np.random.default_rng(9).poisson(1.0, len(score))
    repeated = metrics.auc(metrics.rank(np.repeat(score, times), np.repeat(label, times)))
    assert metrics.auc(metrics.rank(score, label), times.astype(np.float32)) == repeated


@pytest.mark.parametrize("seed", range(5))
def test_gauc_equals_a_loop_over_users(seed: int) -> None:
    score, label, user, weight = draw(seed)
    pairs = metrics.rank(score, label, user)
    users = len(np.unique(user))
    plain = metrics.gauc(pairs, users=users)
    assert plain == pytest.approx(gauc_by_loop(score, label, user, np.ones(len(score))), abs=1e-12)
    assert plain.left_out > 0
    assert metrics.gauc(pairs, weight, users=users) == pytest.approx(
        gauc_by_loop(score, label, user, weight), abs=1e-12
    )


def test_gauc_unweighted_counts_users_by_their_weight() -> None:
    score = np.array([0.1, 0.9, 0.9, 0.1, 0.5, 0.5], np.float32)
    label = np.array([0, 1, 0, 1, 0, 1], np.int8)
    user = np.array([0, 0, 1, 1, 2, 2], np.int32)
    found = metrics.gauc(metrics.rank(score, label, user), user_weight=np.array([3.0, 1.0, 0.0]))
    assert found.unweighted == 0.75  # three times 1 and once 0
    assert found.weighted == 0.5  # 1, 0 and the tie's 0.5, by rows


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1], []])
def test_ranking_metrics_of_one_class_are_nan(label: list[int]) -> None:
    score, labels = np.linspace(0, 1, len(label), dtype=np.float32), np.array(label, np.int8)
    users = np.zeros(len(label), np.int32)
    assert np.isnan(metrics.auc(metrics.rank(score, labels)))
    found = metrics.gauc(metrics.rank(score, labels, users), users=1)
    assert np.isnan(found.weighted) and np.isnan(found.unweighted)
    assert (found.users, found.left_out) == (0, 1)


def test_weights_that_leave_one_class_give_nan() -> None:
    score, label = np.array([0.2, 0.8], np.float32), np.array([0, 1], np.int8)
    assert np.isnan(metrics.auc(metrics.rank(score, label), np.array([0.0, 1.0])))
    assert np.isnan(metrics.gauc(metrics.rank(score, label, np.zeros(2, np.int32)), np.array([0.0, 1.0])).weighted)


@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss_and_ne_equal_sklearn(weighted: bool) -> None:
    score, label, _, weight = draw(4)
    score[:3], label[:3] = [0.0, 1.0, 0.0], [1, 0, 0]  # clipped, not infinite
    chosen = weight if weighted else None
    reference = log_loss(label, score, sample_weight=chosen)
    rate = np.average(label, weights=chosen)
    base = log_loss(label, np.full(len(label), rate), sample_weight=chosen)
    assert metrics.log_loss(score, label, chosen) == pytest.approx(reference, rel=1e-6)
    assert metrics.normalised_entropy(score, label, chosen) == pytest.approx(reference / base, rel=1e-6)


def test_ne_of_the_base_rate_is_one_and_of_one_class_nan() -> None:
    label = np.array([0, 0, 0, 1], np.int8)
    assert metrics.normalised_entropy(np.full(4, 0.25, np.float32), label) == pytest.approx(1.0)
    assert np.isnan(metrics.normalised_entropy(np.full(4, 0.25, np.float32), np.zeros(4, np.int8)))


def test_calibration_is_predicted_over_seen() -> None:
    score, label = np.array([0.5, 0.5, 1.0], np.float32), np.array([0, 1, 0], np.int8)
    assert metrics.calibration(score, label) == 2.0
    assert metrics.calibration(score, label, np.array([1.0, 2.0, 0.0])) == 0.75
    assert np.isnan(metrics.calibration(score, np.zeros(3, np.int8)))


def test_reliability_bins_hold_equal_weight_and_keep_ties_together() -> None:
    score = np.repeat(np.array([0.1, 0.3, 0.6, 0.9], np.float32), 5)
    label = (np.arange(20) % 5 < np.repeat([0, 1, 3, 5], 5)).astype(np.int8)
    table = metrics.reliability(score, label, bins=4)
    assert table.weight.tolist() == [5, 5, 5, 5]
    np.testing.assert_allclose(table.score, [0.1, 0.3, 0.6, 0.9], rtol=1e-6)
    np.testing.assert_allclose(table.label, [0, 0.2, 0.6, 1])
    tied = metrics.reliability(np.full(20, 0.5, np.float32), label, bins=4)
    assert tied.weight.tolist() == [20]
    halves = metrics.reliability(score, label, np.repeat([1.0, 0.0], 10), bins=2)
    np.testing.assert_allclose(halves.score, [0.1, 0.3], rtol=1e-6)
