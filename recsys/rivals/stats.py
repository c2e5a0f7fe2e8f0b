"""Smoothed label means by id that never contain the row's own label: out-of-fold on training rows.

Training rows are dealt to K folds by a hash of their row id. A statistic of a row in fold k is made of the other folds'
labels only; a row of any other split uses all training rows. Leaving out the single row instead would leak its label:
of one id there would then be exactly two values, and which of them a row has tells its label.

Notation: n rows, K folds, S ids (0 is unknown).
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.splits import keys_at
from recsys.rivals.rows import Doubles, Ints

FOLDS = 10
ALL = FOLDS
"""The fold of a row that is not in training: nothing is left out."""


def folds_of(row_id: Ints, split: str) -> Ints:
    """[n] fold of each row: 0 to K - 1 in training by a hash of the row id, `ALL` elsewhere."""
    if split != "train":
        return np.full(len(row_id), ALL)
    return (keys_at(row_id, 0) % np.uint64(FOLDS)).astype(np.int64)


class Tallies:
    """Sums of labels and rows by (fold, id), added to in a stream and then closed into `Rates`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._sums = np.zeros(FOLDS * size)
        self._rows = np.zeros(FOLDS * size)

    def add(self, fold: Ints, key: Ints, value: Doubles) -> None:
        """Count rows: `fold` [n] in 0 to K - 1, `key` [n] in 0 to S - 1, `value` [n] labels."""
        place = fold * self.size + key
        self._sums += np.bincount(place, value, minlength=len(self._sums))
        self._rows += np.bincount(place, minlength=len(self._rows))

    def close(self) -> "Rates":
        """What each fold may see."""
        sums, rows = self._sums.reshape(FOLDS, -1), self._rows.reshape(FOLDS, -1)
        unseen = np.zeros((1, self.size))
        # The appended fold leaves nothing out: it is `ALL`.
        seen = [part.sum(0) - np.concatenate([part, unseen]) for part in (sums, rows)]
        for part in seen:
            part[:, 0] = 0.0  # the unknown id stands for no one: it has the prior
        return Rates(*seen)


@dataclass(frozen=True)
class Rates:
    """Sums and rows that a row of each fold may see: [K + 1, S] float64."""

    sums: Doubles
    rows: Doubles

    def mean(self, fold: Ints, key: Ints, prior: Doubles | float, strength: float) -> Doubles:
        """[n] means smoothed towards `prior` by `strength` rows; the prior itself for an id without rows."""
        return (self.sums[fold, key] + strength * prior) / (self.rows[fold, key] + strength)

    def count(self, fold: Ints, key: Ints) -> Doubles:
        """[n] rows behind each mean."""
        return self.rows[fold, key]
