"""How well a filter finds the users of items that it has not learned from: warm items left out as if they were cold.

The host has learned of their interactions, the towers have not: what e_u knows of an item's own users flatters every
system that reads it. The figures compare systems; they promise nothing of cold items.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.config_simulator import Retrieve
from recsys.floor.ridge import FOLDS, fit, moments
from simulator import retrieve
from simulator.content import Content
from simulator.hosts import Host
from simulator.population import Population

Matrix = NDArray[np.float32]
CUTOFFS = (20, 50)
"""K: users found for an item."""
PENALTIES = [0.01, 0.1, 1.0, 10.0]


class LeftOut:
    """The users of some items, among whom the best K of a filter are counted; 12 bytes an interaction of theirs."""

    def __init__(self, population: Population, items: NDArray[np.int64]) -> None:
        """`items`: codes of those that are left out; one that nobody took is passed over."""
        user = np.repeat(np.arange(len(population.users)), population.taken.lengths)
        place = np.full(len(population.items), -1)
        place[items] = np.arange(len(items))
        owned = place[population.taken.values] >= 0
        pairs = np.unique(place[population.taken.values[owned]] * len(population.users) + user[owned])
        row, self._user = np.divmod(pairs, len(population.users))
        taken, self._row = np.unique(row, return_inverse=True)
        self.items = items[taken]
        self._users = len(population.users)
        self._pairs = self._row * self._users + self._user

    def measure(self, users: Matrix, items: Matrix) -> dict[str, float]:
        """Means over the items of recall@K and precision@K (RealPair in the papers), by vectors [U, D] and [I, D]."""
        index = retrieve.build(users, Retrieve())
        found, _ = retrieve.top(index, items[self.items], max(CUTOFFS))
        hit = np.isin(np.arange(len(found))[:, None] * self._users + found, self._pairs)
        owned = np.bincount(self._row, minlength=len(found))
        told: dict[str, float] = {}
        for k in CUTOFFS:
            hits = hit[:, :k].sum(axis=1)
            told[f"recall@{k}"] = float((hits / owned).mean())
            told[f"precision@{k}"] = float((hits / min(k, self._users)).mean())
        return told


def spread(users: Matrix, items: Matrix) -> float:
    """The standard deviation of scores over users [U, D], the variance averaged over items [I, D].

    It is what a pair's scores weigh in a sum that ranks users for an item, where an item's mean score is no matter.
    """
    apart, made = (users - users.mean(axis=0)).astype(np.float64), items.astype(np.float64)
    found = float(np.sum((apart.T @ apart) * (made.T @ made)) / (len(users) * len(items)))
    return max(found, 1e-12) ** 0.5


def ridge(host: Host, content: Content, items: NDArray[np.int64], weight: NDArray[np.int64]) -> Matrix:
    """[I, D] the host's vectors of items as a ridge predicts them from content: the simplest filter there is.

    items: codes of those that it is fitted on. weight: [I] training rows of each.
    """
    parts = [items[fold::FOLDS] for fold in range(FOLDS)]
    x, y = content.vectors.astype(np.float64), host.items.astype(np.float64)
    folds = [moments(x[part], y[part], weight[part].astype(float)) for part in parts if len(part)]
    return fit(folds, x.shape[1], PENALTIES)(x).astype(np.float32)
