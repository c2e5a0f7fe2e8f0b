"""Two-way ("pigeonhole") bootstrap over users and items, after Owen (2007), doi:10.1214/07-AOAS122.

Ratings of one user, and of one item, move together, so rows may not be resampled as if they were independent. Each
replicate draws users with replacement and, independently, items with replacement; a row's weight is the product of
how often its user and its item were drawn. All systems are judged under the same weights, which is what makes a
difference of two systems paired.

The interval is the 2.5 % and 97.5 % percentile over replicates. It is conservative: it counts the part of the variance
that belongs to neither user nor item up to three times (Owen's theorem 3), so it is too wide rather than too narrow.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.evaluate import metrics

METRICS = ("auc", "gauc", "gauc_unweighted", "logloss", "ne", "calibration")
"""What `judge` measures, in order. Lower is better for logloss and ne; calibration is best at 1."""

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """The rows of one segment, users and items renumbered from 0 so that each is one bootstrap unit."""

    user: NDArray[np.int32]
    """[N]"""
    item: NDArray[np.int32]
    """[N]"""
    label: NDArray[np.int8]
    """[N]"""
    users: int
    items: int

    @staticmethod
    def of(user: NDArray[np.int32], item: NDArray[np.int32], label: NDArray[np.int8]) -> "Sample":
        """From any int32 codes [N] and labels [N]."""
        user, users = _renumber(user)
        item, items = _renumber(item)
        return Sample(user, item, label, users, items)

    def users_with_both(self) -> int:
        """Users that have a positive and a negative row."""
        positives = np.bincount(self.user, self.label, self.users)
        return int(((positives > 0) & (positives < np.bincount(self.user, minlength=self.users))).sum())


@dataclass(frozen=True)
class Ranked:
    """One system's scores on a `Sample`, sorted once for every replicate; about 40 bytes a row."""

    pooled: metrics.Pairs
    within: metrics.Pairs
    loss: NDArray[np.float32]
    """[N] log loss of each row."""
    score: NDArray[np.float32]
    """[N]"""

    @staticmethod
    def of(sample: Sample, score: NDArray[np.float32]) -> "Ranked":
        """Sort scores [N] of the sample's rows."""
        return Ranked(
            pooled=metrics.rank(score, sample.label),
            within=metrics.rank(score, sample.label, sample.user),
            loss=metrics.row_losses(score, sample.label).astype(np.float32),
            score=score,
        )


@dataclass(frozen=True)
class Judged:
    """M metrics of S systems on one segment."""

    value: NDArray[np.float64]
    """[S, M] on the rows as they are."""
    replicates: NDArray[np.float64]
    """[R, S, M]"""

    def interval(self, system: int) -> NDArray[np.float64]:
        """[M, 3]: value, low, high."""
        return _interval(self.value[system], self.replicates[:, system])

    def difference(self, system: int, baseline: int) -> NDArray[np.float64]:
        """[M, 3]: value, low, high of system minus baseline, paired within each replicate."""
        return _interval(
            self.value[system] - self.value[baseline], self.replicates[:, system] - self.replicates[:, baseline]
        )


def judge(sample: Sample, scores: list[NDArray[np.float32]], replicates: int, seed: int, title: str = "") -> Judged:
    """METRICS of every system with `replicates` bootstrap replicates; the same seed gives the same numbers.

    scores: one [N] array for each system, all on the sample's rows. A progress bar shows on a terminal.
    """
    ranked = [Ranked.of(sample, score) for score in scores]

    def under(user_weight: Weights, item_weight: Weights) -> NDArray[np.float64]:
        weight = user_weight[sample.user] * item_weight[sample.item]
        return np.array([measure(sample, system, weight, user_weight) for system in ranked])

    return resample(sample, under, replicates, seed, title)


def resample(
    sample: Sample,
    under: Callable[[Weights, Weights], NDArray[np.float64]],
    replicates: int,
    seed: int,
    title: str = "",
) -> Judged:
    """What `under` gives, [S, M] from weights of the users and of the items, as they are and in every replicate."""
    value = under(np.ones(sample.users, np.float32), np.ones(sample.items, np.float32))
    drawn = tqdm(
        draw(sample.users, sample.items, replicates, seed),
        total=replicates,
        desc=title,
        unit="replicate",
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    found = np.empty((replicates, *value.shape))
    for index, weights in enumerate(drawn):
        found[index] = under(*weights)
    return Judged(value, found)


def draw(users: int, items: int, replicates: int, seed: int) -> Iterator[tuple[Weights, Weights]]:
    """For each replicate how often every user [users] and item [items] is drawn: multinomial, float32."""
    for replicate in range(replicates):
        random = np.random.default_rng([seed, replicate])
        yield _multinomial(random, users), _multinomial(random, items)


def measure(sample: Sample, system: Ranked, weight: Weights, user_weight: Weights) -> NDArray[np.float64]:
    """[M] metrics under row weights [N] and user weights [users]; NaN where a class has no weight left."""
    within = metrics.gauc(system.within, weight, user_weight)
    wide = weight.astype(np.float64)
    rows, positives = float(wide.sum()), float(wide @ sample.label)
    loss = float(wide @ system.loss) / rows if rows > 0 else float("nan")
    entropy = metrics.base_entropy(positives / rows) if rows > 0 else 0.0
    return np.array(
        [
            metrics.auc(system.pooled, weight),
            within.weighted,
            within.unweighted,
            loss,
            loss / entropy if entropy > 0 else float("nan"),
            float(wide @ system.score) / positives if positives > 0 else float("nan"),
        ]
    )


def _multinomial(random: np.random.Generator, size: int) -> Weights:
    return np.bincount(random.integers(0, size, size), minlength=size).astype(np.float32)


def _interval(value: NDArray[np.float64], replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.nanquantile(replicates, [0.025, 0.975], axis=0) if len(replicates) else (value, value)
    return np.stack([value, low, high], axis=1)


def _renumber(code: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    used = np.zeros(int(code.max(initial=-1)) + 1, bool)
    used[code] = True
    return (np.cumsum(used) - 1)[code].astype(np.int32), int(used.sum())
