"""Which cold items are simulated, and which users might take them.

Legend: I items and U users of the population, n items simulated, K candidates of each, D width of the filter's vectors.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.errors import InputError
from recsys.evaluate.vectors import Vectors, read_vectors
from simulator import filter as filters
from simulator import retrieve, texts
from simulator.population import Population

_CHUNK = 65536
"""Candidates whose vectors are in memory at once."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Whom to draw candidates from, and for which items."""

    population: Population
    vectors: Vectors
    """By the filter, of all users and items of the population."""
    items: NDArray[np.int64]
    """[n] codes of the cold items to simulate, ascending."""
    left_out: int
    """Cold items without a text or a vector."""

    @classmethod
    def read(cls, config: Config) -> "Pool":
        """Of the config's dataset and run. In memory are the population and its vectors, and until this returns the
        texts of all cold items.

        Raises:
            InputError: a file that is not as it should be, or no cold item with a text and a vector.
        """
        dataset, prompt, options = Path(config.data.path), config.simulator.prompt, config.simulator.funnel
        population = Population.read(dataset)
        vectors = read_vectors(filters.folder_of(config), population.users, population.items)
        cold = population.cold
        told = texts.read(dataset, prompt.template, prompt.tokens, population.items.take(cold))
        known = cold[np.array([bool(text.strip()) for text in told], bool) & ~vectors.unknown_items[cold]]
        if not len(known):
            raise InputError(f"{dataset}: none of {len(cold)} cold items has a text and a vector of the filter")
        drawn = np.random.default_rng([options.seed, 0]).permutation(known)[: options.items]
        return cls(population, vectors, np.sort(drawn), len(cold) - len(known))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Users of the items simulated: 12 bytes each."""

    items: NDArray[np.int64]
    """[n] item codes."""
    users: NDArray[np.int64]
    """[n, K] user codes, the best first; -1 from where no more were found."""
    scores: NDArray[np.float32]
    """[n, K] by the filter."""

    def pairs(self) -> NDArray[np.int64]:
        """[P, 2] user code, item code, of all that were found."""
        items = np.broadcast_to(self.items[:, None], self.users.shape)
        return np.stack([self.users, items], axis=-1)[self.users >= 0]


def find(items: NDArray[np.int64], pool: Pool, config: Config) -> Candidates:
    """Candidates of items [n], as the config says; an item's do not depend on the others. The filter's index is mapped.

    Users drawn at random are in the order of the draw; their scores are told, and choose nothing.

    Raises:
        InputError: no index, or not of these users.
    """
    options, size = config.simulator.funnel, len(pool.population.users)
    if options.users == "random":
        count = min(options.candidates, size)
        draws = (np.random.default_rng([options.seed, 2, item]) for item in items)
        drawn = np.array([random.choice(size, count, replace=False) for random in draws], np.int64)
        found = drawn.reshape(len(items), count)
        return Candidates(items, found, _scores(items, found, pool.vectors))
    path, width = filters.folder_of(config) / filters.INDEX, pool.vectors.users.shape[1]
    index = retrieve.read(path)
    if (index.ntotal, index.d) != (size, width):
        told = f"expected {size} users by {width} values, found {index.ntotal} by {index.d}"
        raise InputError(f"{path}: {told}: train the filter again")
    return Candidates(items, *retrieve.top(index, pool.vectors.items[items], options.candidates))


def _scores(items: NDArray[np.int64], users: NDArray[np.int64], vectors: Vectors) -> NDArray[np.float32]:
    """[n, K]"""
    found = np.empty(users.shape, np.float32)
    step = max(_CHUNK // max(users.shape[1], 1), 1)
    for start in range(0, len(items), step):
        part = slice(start, start + step)
        found[part] = np.einsum("nkd,nd->nk", vectors.users[users[part]], vectors.items[items[part]])
    return found
