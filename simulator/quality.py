"""How true a simulation is: what became of its pairs in the rows that were held out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.data.schema import read_info
from recsys.errors import InputError
from recsys.evaluate.positives import index, pairs
from recsys.files import replacing
from simulator import simulated
from simulator.population import Population

NAME = "quality.json"
HELD_OUT = ("valid", "test", "feedback")


@dataclass(frozen=True)
class Quality:
    """Shares as (value, low, high): the 2.5 % and 97.5 % percentiles of a bootstrap over items."""

    items: int
    """Simulated."""
    qualified: int
    """Pairs."""
    asked: int
    """Pairs with a P(Yes)."""
    real_pair: tuple[float, float, float]
    """RealPair (LLM-InS, table 2): share of the qualified pairs that are held-out positives."""
    chance: float
    """That of all pairs of these items and the users who have a row in split=train."""
    adoption: tuple[float, float, float] | None
    """Share of the pairs asked about that qualified; None where nobody was asked."""


def write(config: Config) -> Path:
    """Measure the config's simulation; returns `quality.json` in its folder.

    Raises:
        InputError: as `measure`.
    """
    folder, options = simulated.folder_of(config), config.evaluate
    found = measure(folder, Path(config.data.path), options.replicates, options.seed)
    with replacing(folder / NAME) as partial:
        partial.write_text(json.dumps(asdict(found), indent=1) + "\n")
    return folder / NAME


def measure(folder: Path, dataset: Path, replicates: int, seed: int) -> Quality:
    """Of the simulation in a folder. Memory: the population, 100 bytes a simulated pair, and 8 a replicate and item.

    Raises:
        InputError: no simulation of this dataset, or none in which a pair qualified.
    """
    rows = simulated.read(folder, read_info(dataset).fingerprint)
    qualified = rows["qualified"].to_numpy()
    if not qualified.any():
        raise InputError(f"{folder / simulated.ROWS}: no pair qualified: nothing to measure")
    population = Population.read(dataset)
    users, items = population.users, population.items
    known = index("user_id", users), index("item_id", items)
    user, item = known[0].rows(rows["user_id"]) - 1, known[1].rows(rows["item_id"]) - 1
    held = np.unique(np.concatenate([pairs(dataset, split, *known) for split in HELD_OUT]))
    real = np.isin(user * len(items) + item, held) & qualified
    asked = rows["yes"].is_valid().to_numpy()
    played, place = np.unique(item, return_inverse=True)
    count = [np.bincount(place[each], minlength=len(played)) for each in (real, qualified, qualified & asked, asked)]
    weights = _weights(len(played), replicates, seed)
    return Quality(
        items=len(played),
        qualified=int(qualified.sum()),
        asked=int(asked.sum()),
        real_pair=_ratio(count[0], count[1], weights),
        chance=float(np.isin(held % len(items), played).sum()) / (len(users) * len(played)),
        adoption=_ratio(count[2], count[3], weights) if asked.any() else None,
    )


def _weights(items: int, replicates: int, seed: int) -> NDArray[np.int64]:
    """[replicates, items] how often each item is drawn."""
    return np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), replicates)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64], weights: NDArray[np.int64]) -> tuple[float, float, float]:
    """Of sums over items [n], as they are and in every replicate that has any of the whole."""
    total = weights @ whole
    low, high = np.quantile((weights @ part)[total > 0] / total[total > 0], [0.025, 0.975])
    return float(part.sum() / whole.sum()), float(low), float(high)
