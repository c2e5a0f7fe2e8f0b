"""Who took what of the items that are learned from, in batches, each with an item and a user that do not belong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.data.jagged import Jagged
from recsys.evaluate.positives import among
from simulator.population import Population

Codes = NDArray[np.int64]
TRIES = 20
"""Draws of a negative at most: for a user who took nearly everything the last one is kept, whatever it is."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """Attributes:
    users: [u] codes of the users that are drawn from, ascending.
    items: [i] codes of the items that are drawn from, ascending. Cold items are none of them: they would be pushed down
        below all others, whatever is later known of them.
    edges: [E] user * stride + item of every pair of both that was taken, ascending, each once; 8 bytes each.
    stride: more than any item's code.
    """

    users: Codes
    items: Codes
    edges: Codes
    stride: int

    @classmethod
    def of(cls, population: Population, users: NDArray[np.bool_], items: NDArray[np.bool_]) -> "Interactions":
        """Those of the population between these users [U] and these items [I]."""
        user = np.repeat(np.arange(len(users)), population.taken.lengths)
        item = population.taken.values.astype(np.int64)
        kept = users[user] & items[item]
        edges = np.unique(user[kept] * len(items) + item[kept])
        return cls(np.flatnonzero(users), np.flatnonzero(items), edges, len(items))

    def ends(self) -> tuple[Codes, Codes]:
        """User and item [E] of every edge."""
        user, item = np.divmod(self.edges, self.stride)
        return user, item

    def lists(self, users: int) -> Jagged:
        """[users] the item codes that each user took, ascending."""
        user, item = self.ends()
        return Jagged(item, np.searchsorted(user, np.arange(users + 1)))

    def has(self, user: Codes, item: Codes) -> NDArray[np.bool_]:
        """[n] whether there is an edge between them."""
        return among(user * self.stride + item, self.edges)

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[tuple[Codes, Codes, Codes, Codes]]:
        """Users, items, other items and other users [B] of every edge once, in an order of the epoch's own."""
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(self.edges))
        for start in range(0, len(order), size):
            user, item = np.divmod(self.edges[order[start : start + size]], self.stride)
            yield user, item, self.other_items(user, random), self.other_users(item, random)

    def other_items(self, user: Codes, random: np.random.Generator) -> Codes:
        """[B] for each user [B], an item drawn uniformly from those they did not take."""
        return _untaken(self.items, len(user), random, lambda at, drawn: self.has(user[at], drawn))

    def other_users(self, item: Codes, random: np.random.Generator) -> Codes:
        """[B] for each item [B], a user drawn uniformly from those who did not take it."""
        return _untaken(self.users, len(item), random, lambda at, drawn: self.has(drawn, item[at]))


def _untaken(
    pool: Codes, count: int, random: np.random.Generator, taken: Callable[[Codes, Codes], NDArray[np.bool_]]
) -> Codes:
    drawn = pool[random.integers(len(pool), size=count)]
    open_ = np.arange(count)
    for _ in range(TRIES):
        open_ = open_[taken(open_, drawn[open_])]
        if not len(open_):
            break
        drawn[open_] = pool[random.integers(len(pool), size=len(open_))]
    return drawn
