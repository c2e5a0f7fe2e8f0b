"""From which P(Yes) on a user qualifies, by held-out pairs of warm items.

A judge's answers are scores, not probabilities of the data's: untuned, its mean says more about the wording than about
the users. So the threshold is the one with the greatest balanced accuracy (Youden's index) in telling positives of
split=valid from as many pairs of the same users and warm items drawn uniformly among those that the user has not taken.
Of equally good thresholds the lowest counts: a judge that knows nothing lets everybody through.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.evaluate.positives import among, index, pairs
from simulator.population import Population

_TRIES = 16
"""Draws of an unseen item for a positive, of which the first that is unseen counts."""


@dataclass(frozen=True)
class Threshold:
    """A user qualifies with P(Yes) >= `value`."""

    value: float
    auc: float | None = None
    """Of the pairs that it was found by; None where it was given."""
    accuracy: float | None = None
    """Balanced, at the value."""
    positives: int = 0
    negatives: int = 0


@dataclass(frozen=True, eq=False)
class HeldOut:
    """n pairs of warm items."""

    pairs: NDArray[np.int64]
    """[n, 2] user code, item code."""
    label: NDArray[np.bool_]
    """[n]"""


def held_out(population: Population, dataset: Path, count: int, seed: int) -> HeldOut:
    """At most count / 2 positives and a negative for each, but for users whose unseen items a few draws do not hit.

    Raises:
        InputError: a split that cannot be read.
    """
    size = len(population.items)
    liked = pairs(dataset, "valid", index("user_id", population.users), index("item_id", population.items))
    owner = np.repeat(np.arange(len(population.users)), population.taken.lengths)
    taken = np.unique(owner * size + population.taken.values)
    positives = np.setdiff1d(liked[liked % size < population.warm], taken, assume_unique=True)
    random = np.random.default_rng([seed, 1])
    chosen = np.sort(random.permutation(positives)[: count // 2])
    drawn = (chosen // size * size)[:, None] + random.integers(0, population.warm, (len(chosen), _TRIES))
    unseen = ~(among(drawn, taken) | among(drawn, liked))
    negatives = drawn[np.arange(len(chosen)), unseen.argmax(axis=1)][unseen.any(axis=1)]
    keys = np.concatenate([chosen, negatives])
    return HeldOut(np.stack([keys // size, keys % size], axis=1), np.arange(len(keys)) < len(chosen))


def choose(yes: NDArray[np.float32], label: NDArray[np.bool_]) -> Threshold:
    """The threshold by P(Yes) [n] and labels [n].

    Raises:
        InputError: no positive, or no negative.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    positives = int(label.sum())
    if positives in (0, len(label)):
        raise InputError(
            f"simulator.funnel.threshold: split 'valid' gives {positives} positives of warm items and "
            f"{len(label) - positives} pairs beside them, expected some of both: give a threshold"
        )
    false, true, thresholds = roc_curve(label, yes, drop_intermediate=False)
    gain = np.round(true - false, 12)
    best = int(np.flatnonzero(gain == gain.max())[-1])
    auc = float(roc_auc_score(label, yes))
    return Threshold(float(thresholds[best]), auc, float(1 + gain[best]) / 2, positives, len(label) - positives)
