"""Two-way ("pigeonhole") bootstrap over users and items, after Owen (2007), doi:10.1214/07-AOAS122.

Ratings of one user, and of one item, move together, so rows may not be resampled as if they were independent. Each
replicate draws each user, and independently each item, a Poisson(1) number of times; a row's weight is the product of
how often its user and its item were drawn. All systems are judged under the same weights, which is what makes a
difference of two systems paired. How often an id is drawn depends on the id, the seed and the replicate alone: it is
the same in every sample that holds it, so replicates of several draws of a dataset can be averaged
(`recsys.evaluate.draws`).

The interval is the 2.5 % and 97.5 % percentile over replicates. It is conservative: it counts the part of the variance
that belongs to neither user nor item up to three times (Owen's theorem 3), so it is too wide rather than too narrow.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.data.splits import keys_at
from recsys.evaluate import metrics

METRICS = ("auc", "gauc", "gauc_unweighted", "logloss", "ne", "calibration")
"""What `judge` measures, in order. Lower is better for logloss and ne; calibration is best at 1."""

Weights = NDArray[np.float32]
Keys = NDArray[np.int64]

_USERS, _ITEMS = 3, 4
"""Salts of the hash; `recsys.evaluate.ties` and `sampled` take those below."""
_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 20)]))
"""Poisson(1): the chance of at most 0, 1, 2, ... draws."""


@dataclass(frozen=True)
class Sample:
    """The rows of one segment, users and items renumbered from 0 so that each is one bootstrap unit."""

    user: NDArray[np.int32]
    """[N]"""
    item: NDArray[np.int32]
    """[N]"""
    label: NDArray[np.int8]
    """[N]"""
    user_key: Keys
    """[users] what decides how often a user is drawn."""
    item_key: Keys
    """[items]"""

    @property
    def users(self) -> int:
        return len(self.user_key)

    @property
    def items(self) -> int:
        return len(self.item_key)

    @staticmethod
    def of(
        user: NDArray[np.int32],
        item: NDArray[np.int32],
        label: NDArray[np.int8],
        user_keys: Keys | None = None,
        item_keys: Keys | None = None,
    ) -> "Sample":
        """From any int32 codes [N] and labels [N]; keys by code, the codes themselves where there are none."""
        user, user_key = _renumber(user, user_keys)
        item, item_key = _renumber(item, item_keys)
        return Sample(user, item, label, user_key, item_key)

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
        draw(sample, replicates, seed),
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


def draw(sample: Sample, replicates: int, seed: int) -> Iterator[tuple[Weights, Weights]]:
    """For each replicate how often every user [users] and item [items] is drawn: Poisson(1) by key, float32."""
    for replicate in range(replicates):
        # A prime apart, so that no replicate of a small seed is one of another.
        number = seed * 1_000_003 + replicate
        yield _poisson(sample.user_key, number, _USERS), _poisson(sample.item_key, number, _ITEMS)


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


def _poisson(keys: Keys, number: int, salt: int) -> Weights:
    uniform = (keys_at(keys, number, salt) >> np.uint64(11)) / 2.0**53
    return np.searchsorted(_POISSON, uniform, side="right").astype(np.float32)


def ends(replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2, ...] the 2.5 % and 97.5 % percentiles over [R, ...], replicates without a value left out."""
    found: NDArray[np.float64] = np.nanquantile(replicates, [0.025, 0.975], axis=0)
    return found


def _interval(value: NDArray[np.float64], replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = ends(replicates) if len(replicates) else (value, value)
    return np.stack([value, low, high], axis=1)


def _renumber(code: NDArray[np.int32], keys: Keys | None) -> tuple[NDArray[np.int32], Keys]:
    used = np.zeros(int(code.max(initial=-1)) + 1, bool)
    used[code] = True
    held = np.flatnonzero(used)
    return (np.cumsum(used) - 1)[code].astype(np.int32), held if keys is None else keys[held]
