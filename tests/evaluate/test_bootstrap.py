import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import poisson
from sklearn.metrics import log_loss, roc_auc_score

from recsys.evaluate import bootstrap, metrics
from recsys.evaluate.bootstrap import METRICS, Sample


def crossed(
    seed: int, users: int = 40, items: int = 15, rows: int = 500, item_effect: float = 1.0
) -> tuple[Sample, NDArray[np.float32]]:
    """Rows of a two-way world: users and items each move the label; the score knows the users."""
    random = np.random.default_rng(seed)
    user, item = random.integers(0, users, rows).astype(np.int32), random.integers(0, items, rows).astype(np.int32)
    taste, appeal = random.normal(0, 1, users), random.normal(0, item_effect, items)
    logit = taste[user] + appeal[item]
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    score = np.round(1 / (1 + np.exp(-taste[user] - random.normal(0, 1, rows))), 2).astype(np.float32)
    return Sample.of(user, item, label), score


def by_repeating_rows(sample: Sample, score: NDArray[np.float32], weight: NDArray[np.float32]) -> list[float]:
    """Every metric with rows written out as often as they were drawn, users by a loop."""
    times = weight.astype(int)
    label, scores, user = (np.repeat(column, times) for column in (sample.label, score, sample.user))
    within = {
        each: roc_auc_score(label[user == each], scores[user == each])
        for each in np.unique(user)
        if len(np.unique(label[user == each])) == 2
    }
    sizes = [(user == each).sum() for each in within]
    loss = log_loss(label, scores)
    base = log_loss(label, np.full(len(label), label.mean()))
    return [
        roc_auc_score(label, scores),
        np.average(list(within.values()), weights=sizes),
        loss,
        loss / base,
        scores.sum() / label.sum(),
    ]


def test_replicates_equal_a_brute_force_loop_under_the_same_weights() -> None:
    sample, score = crossed(0)
    judged = bootstrap.judge(sample, [score], replicates=15, seed=7)
    plain = [METRICS.index(name) for name in ("auc", "gauc", "logloss", "ne", "calibration")]
    for index, (user_weight, item_weight) in enumerate(bootstrap.draw(sample, 15, seed=7)):
        expected = by_repeating_rows(sample, score, user_weight[sample.user] * item_weight[sample.item])
        np.testing.assert_allclose(judged.replicates[index, 0, plain], expected, rtol=1e-6)
    np.testing.assert_allclose(
        judged.value[0, plain], by_repeating_rows(sample, score, np.ones(len(score), np.float32)), rtol=1e-6
    )


def test_unweighted_gauc_counts_a_user_as_often_as_it_was_drawn() -> None:
    sample, score = crossed(1)
    judged = bootstrap.judge(sample, [score], replicates=5, seed=2)
    for index, (user_weight, item_weight) in enumerate(bootstrap.draw(sample, 5, seed=2)):
        weight = item_weight[sample.item]
        aucs, drawn = [], []
        for user in range(sample.users):
            mine = (sample.user == user) & (weight > 0)
            if user_weight[user] and len(np.unique(sample.label[mine])) == 2:
                aucs.append(roc_auc_score(sample.label[mine], score[mine], sample_weight=weight[mine]))
                drawn.append(user_weight[user])
        expected = np.average(aucs, weights=drawn)
        assert judged.replicates[index, 0, METRICS.index("gauc_unweighted")] == pytest.approx(expected, abs=1e-12)


def test_the_interval_is_the_percentile_and_the_value_is_the_plain_metric() -> None:
    sample, score = crossed(2)
    judged = bootstrap.judge(sample, [score], replicates=50, seed=0)
    interval = judged.interval(0)
    np.testing.assert_allclose(interval[:, 1:].T, np.quantile(judged.replicates[:, 0], [0.025, 0.975], axis=0))
    assert interval[METRICS.index("auc"), 0] == metrics.auc(metrics.rank(score, sample.label))


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    sample, score = crossed(3)
    first, again, other = (bootstrap.judge(sample, [score], 5, seed).replicates for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_system_against_itself_differs_by_exactly_nothing() -> None:
    sample, score = crossed(4)
    judged = bootstrap.judge(sample, [score, score.copy()], replicates=10, seed=0)
    assert not judged.difference(1, 0).any()


def test_a_difference_is_paired() -> None:
    sample, score = crossed(5)
    slightly_worse = np.where(np.arange(len(score)) % 20, score, 0.5).astype(np.float32)
    judged = bootstrap.judge(sample, [score, slightly_worse], replicates=60, seed=0)
    auc = METRICS.index("auc")
    value, low, high = judged.difference(1, 0)[auc]
    assert value == judged.value[1, auc] - judged.value[0, auc]
    assert low < value < high
    assert high - low < 0.5 * np.ptp(judged.interval(0)[auc, 1:])


def test_resampling_items_widens_the_interval_when_items_are_few() -> None:
    sample, score = crossed(6, users=300, items=8, rows=3000, item_effect=2.0)
    rng = np.random.default_rng(0)
    ranked = bootstrap.Ranked.of(sample, score)
    one_way = []
    for _ in range(60):
        user_weight = np.bincount(rng.integers(0, sample.users, sample.users), minlength=sample.users)
        one_way.append(metrics.auc(ranked.pooled, user_weight.astype(np.float32)[sample.user]))
    two_way = bootstrap.judge(sample, [score], replicates=60, seed=0).replicates[:, 0, 0]
    assert two_way.std() > 1.5 * np.std(one_way)


def test_the_interval_covers_the_truth() -> None:
    """Over worlds drawn afresh, users, items and rows, the interval holds the large world's AUC."""
    truth = np.mean([_auc(*crossed(seed, 2000, 2000, 40_000)) for seed in range(1000, 1004)])
    inside = []
    for seed in range(60):
        sample, score = crossed(seed, 60, 30, 900)
        low, high = bootstrap.judge(sample, [score], replicates=60, seed=seed).interval(0)[0, 1:]
        inside.append(low <= truth <= high)
    assert np.mean(inside) >= 0.9


def test_draws_are_poisson_and_independent() -> None:
    code = np.arange(20_000, dtype=np.int32)
    sample = Sample.of(code, code, np.ones(len(code), np.int8))
    drawn = np.array([each for both in bootstrap.draw(sample, 3, seed=5) for each in both])
    for weight in drawn:
        share = np.bincount(weight.astype(int), minlength=8)[:8] / len(code)
        np.testing.assert_allclose(share, [poisson.pmf(k, 1) for k in range(8)], atol=0.012)
    np.testing.assert_allclose(np.corrcoef(drawn), np.eye(6), atol=0.03)


def test_an_id_is_drawn_alike_in_every_sample_that_holds_it() -> None:
    keys, code = np.array([9, 2, 5, 7]), np.array([0, 1, 2], np.int32)
    every = Sample.of(code, code, np.ones(3, np.int8), keys, keys[::-1])
    some = Sample.of(code[:2], code[1:], np.ones(2, np.int8), keys[[2, 0]], keys[::-1])
    for whole, part in zip(bootstrap.draw(every, 9, seed=1), bootstrap.draw(some, 9, seed=1), strict=True):
        assert part[0].tolist() == whole[0][[2, 0]].tolist() and part[1].tolist() == whole[1][1:].tolist()


def _auc(sample: Sample, score: NDArray[np.float32]) -> float:
    return metrics.auc(metrics.rank(score, sample.label))
