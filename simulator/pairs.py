"""Pairs of users and cold items of which the log knows the answer: what the judge is examined on.

A user's positives are cold items that they took in split=valid and split=test. With each come as many cold items as
there are kinds that they did not take:

    uniform    every cold item alike: popularity helps, as it does in retrieval
    popular    as often as it was taken in these splits: popularity does not help, what is left is taste
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.config_simulator import Simulator
from recsys.data.jagged import Jagged
from recsys.errors import InputError
from simulator import contexts
from simulator.examples import unseen
from simulator.population import Population

KINDS = ("uniform", "popular")
"""Of pairs that were not taken."""


@dataclass(frozen=True)
class Pairs:
    """N pairs of V users and cold items.

    Attributes:
        histories: [V] codes of the items that the judge is shown of each user, oldest first.
        user: [N] int32, position in `histories`.
        item: [N] int32 codes.
        kind: [N] int8: 0 taken, from 1 on not, by its place in `KINDS`.
    """

    histories: Jagged
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    kind: NDArray[np.int8]

    @classmethod
    def draw(cls, dataset: Path, population: Population, options: Simulator) -> "Pairs":
        """Users in an order drawn by the seed, until the pairs of either kind are enough or all users are asked about.

        Raises:
            InputError: no user took a cold item in split=valid or test.
        """
        held = population.held_out(dataset)
        random = np.random.default_rng(options.gauge.seed)
        users = random.permutation(np.flatnonzero((held.lengths > 0) & (population.taken.lengths > 0)))
        asked = np.cumsum(np.minimum(held.lengths[users], options.gauge.per_user))
        users = users[: np.searchsorted(asked, -(-options.gauge.pairs // 2)) + 1]
        if not len(users):
            raise InputError(f"{dataset}: expected a user who took a cold item in split 'valid' or 'test', found none")
        parts = [_of_user(held, user, population.cold, options.gauge.per_user, random) for user in users]
        item, kind = (np.concatenate(column) for column in zip(*parts, strict=True))
        user = np.repeat(np.arange(len(users)), [len(items) for items, _ in parts])
        shown = histories(population, users, options)
        return cls(shown, user.astype(np.int32), item.astype(np.int32), kind.astype(np.int8))


def _of_user(
    held: Jagged, user: int, cold: NDArray[np.int64], count: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items and kinds of all pairs of a user."""
    own = held.slice(user, user + 1).values.astype(np.int64)
    parts = [random.choice(own, min(count, len(own)), replace=False)]
    parts += [unseen(len(parts[0]), own, pool, random) for pool in (cold, held.values)]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def histories(population: Population, users: NDArray[np.int64], options: Simulator) -> Jagged:
    """Of each user (a code) the items that the judge is shown, oldest first."""
    events = population.taken.index(users)
    drawn = contexts.draw(events, options.prompt.history, options.prompt.seed)
    shown = population.taken.values[events.values[drawn]]
    return Jagged(shown, np.searchsorted(drawn, events.offsets))
