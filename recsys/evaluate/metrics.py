"""Pointwise metrics over (score, label, weight), exact with ties, in plain NumPy.

Notation: N rows, U users that have both classes, P positives. A label is 0 or 1, a score a probability. Ranking metrics
come in two steps so that a bootstrap sorts once: `rank` finds, for each positive, which negatives it beats; `auc` and
`gauc` then cost O(N) for any row weights.

AUC is the chance that a positive outranks a negative, ties counting one half. GAUC is AUC within each user, averaged
over the users that have both classes: weighted by the user's rows (as in DIN), or each user once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]

EPSILON = float(np.finfo(np.float32).eps)
"""Log loss clips scores to [EPSILON, 1 - EPSILON]: predictions are float32, and a confident miss costs at most 15.9."""


@dataclass(frozen=True)
class Pairs:
    """Rows in order of (group, score), split by class; all int32. Groups are users, or one for the pooled AUC.

    Only groups with both classes are kept. `lower[p]` and `upper[p]` count the kept negatives, over all groups in
    order, that lie before and up to the end of positive p's ties.
    """

    positive: NDArray[np.int32]
    """[P] row of each positive."""
    negative: NDArray[np.int32]
    """[N - P] row of each negative."""
    lower: NDArray[np.int32]
    """[P]"""
    upper: NDArray[np.int32]
    """[P]"""
    group: NDArray[np.int32]
    """[U] the caller's code of each kept group."""
    first_positive: NDArray[np.int32]
    """[U] where each group starts in `positive`."""
    first_negative: NDArray[np.int32]
    """[U + 1] where each group starts in `negative`, and its end."""


class Gauc(NamedTuple):
    """Both averages of the within-user AUC; NaN when no user has both classes."""

    weighted: float
    """Each user by the weight of the user's rows (DIN)."""
    unweighted: float
    """Each user once."""
    users: int
    """Users that count: both classes have a positive weight."""
    left_out: int
    """Users with one class only."""


class Reliability(NamedTuple):
    """A calibration table: rows sorted by score and cut into bins of equal weight; each array is [bins], float64."""

    weight: Doubles
    score: Doubles
    """Mean prediction of the bin."""
    label: Doubles
    """Share of positives in the bin."""


def rank(score: Floats, label: NDArray[np.int8], group: NDArray[np.int32] | None = None) -> Pairs:
    """Sort once by (group, score): scores [N], labels [N] in {0, 1}, groups [N] (None: one group of all rows)."""
    order = np.argsort(score, kind="stable") if group is None else np.lexsort((score, group))
    group = np.zeros(len(score), np.int32) if group is None else group
    order = order[_in_mixed_group(group[order], label[order])]
    if not len(order):
        return _NO_PAIRS
    is_positive = label[order] == 1
    sorted_group, sorted_score = group[order], score[order]
    change = sorted_group[1:] != sorted_group[:-1]
    groups = _starts(change)
    ties = _starts(change | (sorted_score[1:] != sorted_score[:-1]))
    tie_of_row = np.repeat(np.arange(len(ties)), np.diff(np.append(ties, len(order))))[is_positive]
    negatives_before = np.concatenate(([0], np.cumsum(~is_positive)))
    positives_before = np.concatenate(([0], np.cumsum(is_positive)))
    tie_bounds = negatives_before[np.append(ties, len(order))]
    return Pairs(
        positive=order[is_positive].astype(np.int32),
        negative=order[~is_positive].astype(np.int32),
        lower=tie_bounds[tie_of_row].astype(np.int32),
        upper=tie_bounds[tie_of_row + 1].astype(np.int32),
        group=sorted_group[groups].astype(np.int32),
        first_positive=positives_before[groups].astype(np.int32),
        first_negative=negatives_before[np.append(groups, len(order))].astype(np.int32),
    )


def auc(pairs: Pairs, weight: Floats | None = None) -> float:
    """Pooled AUC of `rank(score, label)` under row weights [N] (default 1); NaN when a class has no weight."""
    positive, below = _credit(pairs, weight)
    total = positive.sum() * below.negatives
    return float(positive @ below.credit / total) if total > 0 else float("nan")


def gauc(pairs: Pairs, weight: Floats | None = None, user_weight: Floats | None = None, users: int = 0) -> Gauc:
    """Within-user AUC of `rank(score, label, user)`.

    weight: [N] row weights, default 1. user_weight: [users] by user code, used by the unweighted average, default 1.
    users: how many users there are, one-class users included, only to count those left out.
    """
    if not len(pairs.group):
        return Gauc(float("nan"), float("nan"), 0, users)
    positive, below = _credit(pairs, weight)
    positives = np.add.reduceat(positive, pairs.first_positive)
    bounds = below.cumulative[pairs.first_negative]
    negatives = np.diff(bounds)
    wins = np.add.reduceat(positive * below.credit, pairs.first_positive) - positives * bounds[:-1]
    counts = (positives > 0) & (negatives > 0)
    within = wins[counts] / (positives[counts] * negatives[counts])
    rows = (positives + negatives)[counts]
    each = np.ones(len(within)) if user_weight is None else user_weight[pairs.group[counts]]
    return Gauc(_mean(within, rows), _mean(within, each), int(counts.sum()), max(users - int(counts.sum()), 0))


def row_losses(score: Floats, label: NDArray[np.int8]) -> Doubles:
    """[N] log loss of each row in nats."""
    chance = np.where(label == 1, score, 1.0 - score.astype(np.float64))
    return -np.log(np.clip(chance, EPSILON, 1.0 - EPSILON))


def log_loss(score: Floats, label: NDArray[np.int8], weight: Floats | None = None) -> float:
    """Mean log loss in nats."""
    return _mean(row_losses(score, label), np.ones(len(score)) if weight is None else weight)


def base_entropy(rate: float) -> float:
    """Log loss, in nats, of always predicting the share of positives; 0 at 0 and 1."""
    return float(-sum(p * np.log(p) for p in (rate, 1.0 - rate) if p > 0))


def normalised_entropy(score: Floats, label: NDArray[np.int8], weight: Floats | None = None) -> float:
    """Log loss over the entropy of the base rate: below 1 beats the constant prediction. NaN for one class."""
    entropy = base_entropy(_mean(label, np.ones(len(score)) if weight is None else weight))
    return log_loss(score, label, weight) / entropy if entropy > 0 else float("nan")


def calibration(score: Floats, label: NDArray[np.int8], weight: Floats | None = None) -> float:
    """Sum of predictions over sum of labels: 1 is calibrated, above 1 predicts too much. NaN without positives."""
    weights = np.ones(len(score)) if weight is None else weight.astype(np.float64)
    positives = float(weights @ label)
    return float(weights @ score.astype(np.float64)) / positives if positives > 0 else float("nan")


def reliability(score: Floats, label: NDArray[np.int8], weight: Floats | None = None, bins: int = 10) -> Reliability:
    """Mean prediction against share of positives in up to `bins` bins of equal weight; equal scores share a bin."""
    weights = np.ones(len(score)) if weight is None else weight.astype(np.float64)
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    cumulative = np.cumsum(weights[order])
    if not len(order) or cumulative[-1] <= 0:
        return Reliability(np.zeros(0), np.zeros(0), np.zeros(0))
    first_of_tie = np.searchsorted(ordered, ordered, side="left")
    before = np.concatenate(([0.0], cumulative))[first_of_tie]
    bin_of = np.empty(len(order), np.int64)
    bin_of[order] = np.minimum(before / cumulative[-1] * bins, bins - 1).astype(np.int64)
    mass = np.bincount(bin_of, weights, bins).astype(np.float64)
    kept = mass > 0
    mean_score = np.bincount(bin_of, weights * score, bins)[kept] / mass[kept]
    mean_label = np.bincount(bin_of, weights * label, bins)[kept] / mass[kept]
    return Reliability(mass[kept], mean_score, mean_label)


_NONE = np.zeros(0, np.int32)
_NO_PAIRS = Pairs(_NONE, _NONE, _NONE, _NONE, group=_NONE, first_positive=_NONE, first_negative=np.zeros(1, np.int32))


def _in_mixed_group(group: NDArray[np.int32], label: NDArray[np.int8]) -> NDArray[np.bool_]:
    """[N] whether a row's group (rows are sorted by group) has both classes."""
    if not len(group):
        return np.zeros(0, bool)
    starts = _starts(group[1:] != group[:-1])
    positives = np.add.reduceat(label, starts, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(group)))
    return np.repeat((positives > 0) & (positives < sizes), sizes)


class _Below(NamedTuple):
    cumulative: Doubles
    credit: Doubles

    @property
    def negatives(self) -> float:
        return float(self.cumulative[-1])


def _credit(pairs: Pairs, weight: Floats | None) -> tuple[Doubles, _Below]:
    """Weights [P] of the positives, and the negative weight each one beats (ties half), counted over all groups."""
    cumulative = np.zeros(len(pairs.negative) + 1)
    if weight is None:
        cumulative[:] = np.arange(len(cumulative))
        positive = np.ones(len(pairs.positive))
    else:
        np.cumsum(weight[pairs.negative], dtype=np.float64, out=cumulative[1:])
        positive = weight[pairs.positive].astype(np.float64)
    return positive, _Below(cumulative, 0.5 * (cumulative[pairs.lower] + cumulative[pairs.upper]))


def _starts(change: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where runs start, given for each row but the first whether it differs from the one before."""
    return np.flatnonzero(np.concatenate(([True], change)))


def _mean(value: NDArray[np.generic], weight: Floats) -> float:
    total = float(weight.sum())
    return float(np.dot(weight.astype(np.float64, copy=False), value)) / total if total > 0 else float("nan")
