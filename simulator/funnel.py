"""Simulate who would take each cold item (ColdLLM, section 4.2): candidates by the filter, refined by a judge.

Ranks share the items, and nothing of what is done for an item depends on who has which others: between numbers of ranks
answers differ by the judge's tolerance alone. Each rank holds the population and the filter's vectors, and some 50
bytes for each candidate of its items; the first one writes, and holds some 60 for each candidate of all.

Legend: n items, K candidates of each.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from recsys.config import Config
from recsys.config_simulator import Funnel
from recsys.data.schema import read_info
from recsys.distributed import Ranks, of_first, on_first, together
from simulator import candidates, judge, simulated
from simulator.asking import Counts
from simulator.candidates import Candidates, Pool
from simulator.contexts import Queries, centres
from simulator.endpoints import Share
from simulator.judge import Judge
from simulator.refine import Refined, refine
from simulator.simulated import Refining


@dataclass(frozen=True, eq=False)
class Part:
    """What one rank has found."""

    found: Candidates
    yes: NDArray[np.float32]
    """[n, K] P(Yes), NaN where nobody was asked."""
    counts: Counts
    seconds: float
    """Of refining."""


def simulate(config: Config, ranks: Ranks) -> Path:
    """Simulate by the config's judge, loaded if it is to be asked; returns the simulation's folder. Collective.

    Raises:
        InputError: no such judge, or as `play`.
    """
    refined = config.simulator.funnel.refine
    return play(
        config,
        together(lambda: judge.load(config.simulator, ranks.device, Share.of(ranks))) if refined else None,
        ranks,
    )


def play(config: Config, asked: Judge | None, ranks: Ranks) -> Path:
    """Simulate by a judge, or by none; returns the simulation's folder. Collective.

    Raises:
        InputError: a file of the dataset, the filter or the journal that is not as it should be, no cold item that
            could be simulated, or what the judge raises. What was answered by then is in the journal.
    """
    started = time.perf_counter()
    options = config.simulator.funnel
    pool = together(lambda: Pool.read(config))
    queries = _queries(pool, options, ranks)
    order = pool.items[np.lexsort((pool.items, queries.query[pool.items]))]
    own = np.array_split(order, ranks.world_size)[ranks.rank]  # a group's items are asked about by few ranks
    found = together(lambda: candidates.find(own, pool, config))
    refined = None if asked is None else refine(config, asked, pool, queries, found, ranks)
    parts = _gathered(found, refined, ranks)
    folder = simulated.folder_of(config)

    def write() -> None:
        about = simulated.About(
            dataset=read_info(config.data.path).fingerprint,
            settings=asdict(options),
            items=len(pool.items),
            left_out=pool.left_out,
            refining=None if refined is None else _refining(parts, refined, ranks),
            seconds=round(time.perf_counter() - started, 1),
        )
        simulated.write(folder, _rows(pool, parts, refined, options), about)

    on_first(ranks, write)
    return folder


def _queries(pool: Pool, options: Funnel, ranks: Ranks) -> Queries:
    """What contexts are made for. Collective: ranks must not differ in how a sum was rounded."""
    vectors = pool.vectors.items
    if options.context == "random":
        return Queries.random(len(vectors))
    if options.context == "item":
        return Queries.each(vectors)
    return Queries.grouped(vectors, of_first(ranks, lambda: centres(vectors[pool.items], options.groups, options.seed)))


def _gathered(found: Candidates, refined: Refined | None, ranks: Ranks) -> list[Part]:
    """All ranks' parts, on the first; none on the others. Collective."""
    if refined is None:
        own = Part(found, np.full(found.users.shape, np.nan, np.float32), Counts(), 0.0)
    else:
        own = Part(found, refined.yes, refined.counts, refined.seconds)
    parts: list[Part] | None = [own] * ranks.world_size if ranks.is_first else None
    dist.gather_object(own, parts)
    return parts or []


def _rows(pool: Pool, parts: list[Part], refined: Refined | None, options: Funnel) -> pa.Table:
    """`simulated`'s columns of all candidates."""
    order = np.argsort(np.concatenate([one.found.items for one in parts]))
    items, users = (np.concatenate([getattr(one.found, name) for one in parts])[order] for name in ("items", "users"))
    scores = np.concatenate([one.found.scores for one in parts])[order]
    yes = np.concatenate([one.yes for one in parts])[order]
    first = np.broadcast_to(np.arange(users.shape[1]) < options.qualified, users.shape)
    qualified = first if refined is None else yes >= refined.threshold.value
    real = users >= 0
    return pa.table(
        {
            "user_id": pool.population.users.take(pa.array(users[real])),
            "item_id": pool.population.items.take(pa.array(np.repeat(items, real.sum(axis=1)))),
            "filter": pa.array(scores[real], pa.float32()),
            "yes": pa.array(yes[real], pa.float32(), mask=np.isnan(yes[real])),
            "qualified": qualified[real],
        }
    )


def _refining(parts: list[Part], refined: Refined, ranks: Ranks) -> Refining:
    """Of all ranks."""
    yes = np.concatenate([one.yes.ravel() for one in parts])
    asked = int((~np.isnan(yes)).sum())
    items = sum(len(one.found.items) for one in parts)
    judged, contexts = (sum(getattr(one.counts, name) for one in parts) for name in ("judged", "contexts"))
    seconds = max(one.seconds for one in parts)
    cores = ranks.world_size * (torch.get_num_threads() if ranks.device.type == "cpu" else 1)
    return Refining(
        judge=refined.judge.hex(),
        threshold=asdict(refined.threshold),
        judged=judged,
        known=asked - judged,
        shared=round(asked / contexts, 2),
        adoption=round(float((yes >= refined.threshold.value).sum()) / asked, 4),
        seconds=round(seconds, 1),
        items_per_hour=round(3600 * items / seconds / cores * judged / asked, 1) if judged else None,
    )
