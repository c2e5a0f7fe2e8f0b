"""What the judge is tuned on: histories, and questions about other items whose answer the log knows.

Of a user's items some are asked about and others told, never one item as both, and as in ColdLLM (section 4.3.1)
each item that was taken comes with one that nobody showed the user, and where the log tells what they were shown and
did not take, with one of these. All are warm, so cold items stay unseen.

Of those that nobody showed the user a share is drawn by popularity: in proportion to it an item of any other user's is
drawn, and the step's other users come first. What they took is then asked about as often with the answer no as with
yes, so what is popular gives no gradient, and what the histories say stands out.

A step's draw depends on the seed and the step alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.config_simulator import Tune
from recsys.data.jagged import Jagged
from recsys.errors import InputError
from simulator.population import Population

_ROUNDS = 32
"""Draws of negatives: nobody but a user who took nearly every item needs more than two."""

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """One user's history and K questions, by item codes.

    Attributes:
        user: code.
        history: oldest first.
        items: [K] asked about.
        answers: [K] int64, by their place in `prompts.ANSWERS`: 0 yes, taken, else 1.
    """

    user: int
    history: Codes
    items: Codes
    answers: Codes


class Examples:
    """Draws of them; beside the population 12 bytes an interaction.

    Args:
        ignored: [U] items that each user was shown and did not take; see `Population.ignored`.
        history: items told of a user at most.

    Raises:
        InputError: no user took two items, or with `temporal` in two seconds.
    """

    def __init__(self, population: Population, ignored: Jagged, options: Tune, history: int) -> None:
        self._population, self._ignored, self._options, self._history = population, ignored, options, history
        self._taken, self._time = _firsts(population)
        self._warm = np.arange(population.warm)
        enough = self._taken.lengths > 1
        if options.temporal:
            last = np.maximum(self._taken.offsets[1:] - 1, 0)
            first = np.minimum(self._taken.offsets[:-1], last)
            enough &= self._time[last] > self._time[first]
        self._users = np.flatnonzero(enough)
        if not len(self._users):
            seconds = " in two seconds" if options.temporal else ""
            raise InputError(f"split 'train': expected a user who took two items{seconds}, to tune the judge on")

    def step(self, number: int) -> list[Example]:
        """Of the step's users, each once; fewer where there are fewer."""
        random = np.random.default_rng([self._options.seed, number])
        users = random.choice(self._users, min(self._options.users, len(self._users)), replace=False)
        drawn = [self._of_log(user, random) for user in users]
        found = []
        for place, (user, (told, asked)) in enumerate(zip(users, drawn, strict=True)):
            others = [more for _, more in drawn[:place] + drawn[place + 1 :]]
            of_others = np.concatenate([np.zeros(0, np.int64), *others])
            found.append(self._example(user, told, asked, of_others, random))
        return found

    def _of_log(self, user: int, random: np.random.Generator) -> tuple[Codes, Codes]:
        """Items of a user that are told, and those that are asked about."""
        rows = slice(*self._taken.offsets[user : user + 2])
        taken = self._taken.values[rows].astype(np.int64)
        told, asked = self._divided(self._time[rows], random)
        return taken[told], taken[asked]

    def _example(self, user: int, told: Codes, asked: Codes, of_others: Codes, random: np.random.Generator) -> Example:
        """The user's, where the step's other users are asked about the items `of_others` that they took."""
        taken, ignored = (one.slice(user, user + 1).values.astype(np.int64) for one in (self._taken, self._ignored))
        seen = random.choice(ignored, min(len(asked), len(ignored)), replace=False)
        known, found = np.concatenate([taken, ignored]), np.zeros(0, np.int64)
        popular = random.binomial(len(asked), self._options.popular_share)
        everybody = self._population.taken.values
        for pool, wanted in ((of_others, popular), (everybody, popular), (self._warm, len(asked))):
            more = unseen(wanted - len(found), np.concatenate([known, found]), pool, random)
            found = np.concatenate([found, more])
        items = np.concatenate([asked, seen, found])
        return Example(int(user), told, items, (np.arange(len(items)) >= len(asked)).astype(np.int64))

    def _divided(self, time: Codes, random: np.random.Generator) -> tuple[Codes, Codes]:
        """Of the events of a user, oldest first, those told and those asked about, in order."""
        if self._options.temporal:
            cut = np.searchsorted(time, random.choice(time[time > time[0]]))
            told, asked = np.arange(cut), random.permutation(np.arange(cut, len(time)))
        else:
            order = random.permutation(len(time))
            told, asked = np.split(order, [-min(self._options.positives, len(order) // 2)])
        told = random.choice(told, min(self._history, len(told)), replace=False)
        return np.sort(told), np.sort(asked[: self._options.positives])


def unseen(count: int, known: Codes, pool: NDArray[np.integer], random: np.random.Generator) -> Codes:
    """Distinct items of the pool that are not `known`, at most `count`: fewer where hardly any others are left.

    pool: an item stands in it as often as it is to be drawn.
    """
    found = np.zeros(0, np.int64)
    for _ in range(_ROUNDS if len(pool) else 0):
        if len(found) >= count:
            break
        drawn = pool[random.integers(len(pool), size=2 * count)]
        found = np.concatenate([found, drawn[~np.isin(drawn, known)]])
        found = found[np.sort(np.unique(found, return_index=True)[1])]
    return found[:count]


def _firsts(population: Population) -> tuple[Jagged, Codes]:
    """What each user took, oldest first, each item once, and when for the first time."""
    taken = population.taken
    user = np.repeat(np.arange(len(taken.lengths)), taken.lengths)
    key = user * len(population.items) + taken.values
    rows = np.sort(np.unique(key, return_index=True)[1])
    offsets = np.searchsorted(user[rows], np.arange(len(taken.lengths) + 1))
    return Jagged(taken.values[rows], offsets), population.time[rows]
