"""Ranking metrics from the ranks of positives. Notation: P positives, M metrics, n a user's positives, K a cutoff.

Of the full ranking: Recall@K, the hits among the best K over n; NDCG@K, the sum of 1 / log2(rank + 2) over hits, over
what the best ranking of n positives gives. Of the ranking against N sampled negatives, each positive for itself:
HitRate@K, whether it is among the best K, and NDCG@K, 1 / log2(rank + 2) if it is. Ranks count from 0.

Every metric is a mean over users of a mean over the user's positives: `contributions` are what each positive adds,
`shares` its part in the mean. Unweighted this is the textbook's metric. Under bootstrap weights the inner mean is
weighted by items and the outer by users; the ranking itself stays, candidates are not drawn again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.config import Evaluate
from recsys.evaluate.bootstrap import Judged, Sample, Weights, resample

Ranks = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Of the positives [P], among all candidates and among the sampled negatives."""


def names(options: Evaluate) -> list[str]:
    """The M metrics, such as `recall@20`, `ndcg@20`, `hitrate@10/100` and `ndcg@10/100` (among 100 negatives)."""
    full = [f"{metric}@{k}" for k in options.top_k for metric in ("recall", "ndcg")]
    sampled = [f"{metric}@{k}/{options.negatives}" for k in options.sampled_k for metric in ("hitrate", "ndcg")]
    return full + sampled


def judge(sample: Sample, ranks: Sequence[Sequence[Ranks]], options: Evaluate, title: str = "") -> Judged:
    """Every metric of every system with its bootstrap replicates.

    sample: the positives. ranks: of each system, by each draw of negatives, over which a metric is the mean.
    """
    systems = [np.mean([contributions(sample, *drawn, options) for drawn in draws], axis=0) for draws in ranks]

    def under(user_weight: Weights, item_weight: Weights) -> NDArray[np.float64]:
        share = shares(sample, user_weight, item_weight)
        return np.array([system @ share for system in systems])

    return resample(sample, under, options.replicates, options.seed, title)


def contributions(
    sample: Sample, full: NDArray[np.int32], sampled: NDArray[np.int32], options: Evaluate
) -> NDArray[np.float64]:
    """[M, P] what each positive adds to its user's mean; ranks [P] that no cutoff reaches may be any such rank."""
    deepest = max(*options.top_k, *options.sampled_k)
    discount = np.append(1 / np.log2(np.arange(deepest) + 2), 0.0)
    ideal = np.cumsum(discount)
    own = np.bincount(sample.user, minlength=sample.users)[sample.user]
    rows = []
    for k in options.top_k:
        hit = full < k
        gain = discount[np.where(hit, full, deepest)]
        rows += [hit, gain * own / ideal[np.minimum(own, k) - 1]]
    for k in options.sampled_k:
        hit = sampled < k
        rows += [hit, discount[np.where(hit, sampled, deepest)]]
    return np.array(rows, np.float64)


def shares(sample: Sample, user_weight: Weights, item_weight: Weights) -> NDArray[np.float64]:
    """[P] what each positive counts in a metric; they sum to 1, or are NaN when nothing has weight.

    A user whose positives all have weight 0 is left out, as one without positives is.
    """
    weight = item_weight[sample.item].astype(np.float64)
    total = np.bincount(sample.user, weight, sample.users)
    counted = np.where(total > 0, user_weight, 0.0)
    everything = counted.sum()
    each = counted / np.where(total > 0, total, 1.0) / (everything if everything > 0 else np.nan)
    return weight * each[sample.user]
