import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score

from recsys.config import Evaluate
from recsys.evaluate import gains
from recsys.evaluate.bootstrap import Sample, draw

OPTIONS = Evaluate(top_k=[2, 5], sampled_k=[1, 4], negatives=9, replicates=12, seed=3)
ITEMS = 12


def ranked(seed: int = 0, users: int = 15) -> tuple[Sample, NDArray[np.int32], NDArray[np.int32]]:
    """Every user's positives with different ranks among ITEMS candidates, and any among 9 negatives."""
    random = np.random.default_rng(seed)
    own = [random.permutation(ITEMS)[: random.integers(1, 8)] for _ in range(users)]
    user = np.repeat(np.arange(users), [len(one) for one in own]).astype(np.int32)
    item = np.concatenate(own).astype(np.int32)
    full = np.concatenate([random.permutation(ITEMS)[: len(one)] for one in own]).astype(np.int32)
    return Sample.of(user, item, np.ones(len(user), np.int8)), full, random.integers(0, 10, len(user)).astype(np.int32)


def test_names_say_the_cutoff_and_the_number_of_negatives() -> None:
    assert gains.names(Evaluate()) == ["recall@20", "ndcg@20", "hitrate@10/100", "ndcg@10/100"]


def test_unweighted_metrics_are_the_textbooks() -> None:
    sample, full, sampled = ranked()
    value = dict(zip(gains.names(OPTIONS), gains.judge(sample, [[(full, sampled)]], OPTIONS).value[0], strict=True))
    for k in OPTIONS.top_k:
        recalls, ndcgs = [], []
        for user in range(sample.users):
            ranks = full[sample.user == user]
            recalls.append((ranks < k).mean())
            truth = np.isin(np.arange(ITEMS), ranks).astype(float)
            ndcgs.append(ndcg_score([truth], [-np.arange(ITEMS)], k=k))
        assert value[f"recall@{k}"] == pytest.approx(np.mean(recalls), abs=1e-12)
        assert value[f"ndcg@{k}"] == pytest.approx(np.mean(ndcgs), abs=1e-12)
    for k in OPTIONS.sampled_k:
        hit = sampled < k
        users = [hit[sample.user == user].mean() for user in range(sample.users)]
        assert value[f"hitrate@{k}/9"] == pytest.approx(np.mean(users), abs=1e-12)
        gain = np.where(hit, 1 / np.log2(sampled + 2), 0)
        users = [gain[sample.user == user].mean() for user in range(sample.users)]
        assert value[f"ndcg@{k}/9"] == pytest.approx(np.mean(users), abs=1e-12)


def test_replicates_equal_a_loop_under_the_same_weights() -> None:
    sample, full, sampled = ranked(1)
    added = gains.contributions(sample, full, sampled, OPTIONS)
    judged = gains.judge(sample, [[(full, sampled)]], OPTIONS)
    for index, (user_weight, item_weight) in enumerate(draw(sample, 12, seed=3)):
        metrics, drawn = [], []
        for user in range(sample.users):
            mine = sample.user == user
            weight = item_weight[sample.item[mine]]
            if user_weight[user] and weight.sum():
                metrics.append(np.average(added[:, mine], weights=weight, axis=1))
                drawn.append(user_weight[user])
        np.testing.assert_allclose(judged.replicates[index, 0], np.average(metrics, weights=drawn, axis=0))


def test_a_system_against_its_copy_differs_by_exactly_nothing() -> None:
    sample, full, sampled = ranked(2, users=200)
    judged = gains.judge(sample, [[(full, sampled)], [(full.copy(), sampled.copy())]], OPTIONS)
    assert not judged.difference(1, 0).any() and judged.interval(0)[:, 2].max() > 0
