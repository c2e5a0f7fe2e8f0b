"""Rank all items by dot products of vectors: Recall@K and NDCG@K in full, HitRate@K and NDCG@K among sampled negatives.

Systems are pairs of vector sets (`recsys.evaluate.vectors`), or matrices of scores (`recsys.evaluate.matrix`). In
memory are those of every system (4 bytes a value),
what `recsys.evaluate.positives` keeps, the scores of one batch of users (`recsys.evaluate.topk`), and of every positive
in each segment two int32 a system; then, a segment at a time, 8 bytes a metric and system. Segments are what is ranked:

    warm    items with a row in split=train
    cold    items without one, those held out for valid and for test alike
    all     both
    rare    both, but judged by those positives alone whose items few users took in training (`evaluate.rare_below`)
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.config import Config, Evaluate
from recsys.data.jagged import Jagged
from recsys.data.schema import read_info
from recsys.evaluate import gains, matrix, sampled, systems, topk
from recsys.evaluate.bootstrap import Keys, Sample
from recsys.evaluate.matrix import Matrix
from recsys.evaluate.positives import Task, read_task, takers
from recsys.evaluate.ties import Ties, id_keys
from recsys.evaluate.vectors import Vectors, read_vectors
from recsys.storage import at

System = Vectors | Matrix


@dataclass(frozen=True)
class Segment:
    """Candidates of one kind, and the P positives among them, sorted by user and item."""

    candidates: range
    """Item codes."""
    user: NDArray[np.int32]
    """[P] positions in `Task.users`."""
    item: NDArray[np.int32]
    """[P] item codes."""

    def counts(self) -> dict[str, int]:
        """How many positives, and users that have one: those that the segment's metrics are a mean over."""
        return {"positives": len(self.user), "ranked_users": len(np.unique(self.user))}


def evaluate(
    config: Config, vectors: dict[str, Path], split: str = "test", baseline: str | None = None
) -> dict[str, Any]:
    """Judge rankings of the split's positives, all systems on the same candidates, negatives and resamples.

    vectors: folder of user_id and item_id vectors, or of scores, by system name. baseline: the system that the others
    are compared to; None is `base` where it is one of several.

    Returns the content of results.json:
        dataset, split, seeds: what was judged; seeds are the dataset's (they draw the held-out items).
        systems: {name: {segment: {metric: [value, low, high], "positives": P, "ranked_users": U}}}, metrics as in
            `recsys.evaluate.gains`; a segment with too few positives or users has no metrics.
        differences: {"name - baseline": the same shape}.
        protocol: {"candidates": {segment: how many}, ...: how the ranking was made, in words}.
        without_vector: {name: {"users" | "warm items" | "cold items": how many have no vector of their own}}.
        seconds: {"rank": s}.

    Raises:
        InputError: a dataset or vectors that are not as they should be, a user with too few items to sample negatives
            from, or an unknown baseline.
    """
    started = time.perf_counter()
    dataset, options = at(config.data.path), config.evaluate
    info = read_info(dataset)
    baseline = systems.baseline_of(vectors, baseline)
    task = read_task(dataset, split, options.seed)
    segments = segments_of(task)
    if options.rare_below:
        segments["rare"] = _rare(segments["all"], takers(dataset, task.items) < options.rare_below)
    enough = {name: segment for name, segment in segments.items() if _enough(segment.counts(), options)}
    for segment in enough.values():
        judged_users = np.unique(segment.user)
        sampled.require(
            task.users.take(judged_users), task.liked.take(judged_users), segment.candidates, options.negatives
        )
    found = {name: _read(Path(path), task) for name, path in vectors.items()}
    ranked = _drawn(task, list(found.values()), enough, options)
    keys = id_keys(task.users), id_keys(task.items)
    judged = {
        name: gains.judge(_sample(segment, keys), ranked[name], options, name) if name in enough else None
        for name, segment in segments.items()
    }
    results: dict[str, Any] = {
        "dataset": info.name,
        "split": f"{info.rule}/{split}",
        "seeds": [info.seed],
        **systems.tables(
            list(found),
            baseline,
            gains.names(options),
            {name: (judged[name], segment.counts()) for name, segment in segments.items()},
        ),
        "protocol": _protocol(task, segments, split, options),
        "without_vector": {name: _without(one, task) for name, one in found.items()},
    }
    return results | {"seconds": {"rank": round(time.perf_counter() - started, 1)}}


def _drawn(
    task: Task, found: list[System], segments: dict[str, Segment], options: Evaluate
) -> dict[str, list[list[gains.Ranks]]]:
    """What `rank` says of each system, by each draw of negatives and ties."""
    every = []
    for seed in _seeds(options):
        ties = Ties.of(task.users, len(task.items), seed)
        every.append(rank(replace(task, ties=ties), found, segments, replace(options, seed=seed)))
    return {name: [[one[name][index] for one in every] for index in range(len(found))] for name in segments}


def _seeds(options: Evaluate) -> range:
    return range(options.seed, options.seed + options.draws)


def _read(folder: Path, task: Task) -> System:
    return (matrix.read if matrix.is_matrix(folder) else read_vectors)(folder, task.users, task.items)


def segments_of(task: Task) -> dict[str, Segment]:
    """The task's segments in the order they are printed."""
    user = np.repeat(np.arange(len(task.users), dtype=np.int32), task.positives.lengths)
    item = task.positives.values
    found = {}
    for name, codes in (
        ("all", range(len(task.items))),
        ("warm", range(task.warm)),
        ("cold", range(task.warm, len(task.items))),
    ):
        inside = (item >= codes.start) & (item < codes.stop)
        found[name] = Segment(codes, user[inside], item[inside])
    return found


def _rare(everything: Segment, rare: NDArray[np.bool_]) -> Segment:
    """The same candidates, and of the positives those of the `rare` [I] items."""
    kept = rare[everything.item]
    return Segment(everything.candidates, everything.user[kept], everything.item[kept])


def rank(
    task: Task, found: Sequence[System], segments: dict[str, Segment], options: Evaluate, sample: bool = True
) -> dict[str, list[gains.Ranks]]:
    """By segment, for each system: ranks [P] of the positives among all candidates, and among the sampled negatives.

    Of the first, those beyond the largest `top_k` are all that number. The second are undefined without `sample`.

    Raises:
        InputError: a user with too few candidates to sample negatives from.
    """
    deepest = max(options.top_k)
    made = {
        name: [(np.empty_like(segment.item), np.empty_like(segment.item)) for _ in found]
        for name, segment in segments.items()
    }
    for batch in topk.batches(len(task.users), len(task.items)):
        masked, ties = task.masked.slice(batch.start, batch.stop), task.ties.slice(batch.start, batch.stop)
        parts = {name: _part(task, segment, batch, options if sample else None) for name, segment in segments.items()}
        for index, system in enumerate(found):
            scores = _scores(system, batch, masked)
            for name, part in parts.items():
                full, among = made[name][index]
                full[part.where] = topk.ranks(scores, segments[name].candidates, ties, part.row, part.item, deepest)
                if part.negatives is not None:
                    among[part.where] = sampled.ranks(
                        scores.numpy(), ties, part.row, part.item, part.users, part.negatives
                    )
            del scores  # or the next ones would be made beside them, which takes more time too
    return made


def _scores(system: System, batch: slice, masked: Jagged) -> torch.Tensor:
    """[B, I] as `topk.score` makes them."""
    if isinstance(system, Matrix):
        return topk.mask(torch.from_numpy(system.scores[batch].copy()), masked)
    return topk.score(torch.from_numpy(system.users[batch]), torch.from_numpy(system.items), masked)


@dataclass(frozen=True)
class _Part:
    """A segment's p positives in one batch of users."""

    where: slice
    """Among the segment's positives."""
    row: NDArray[np.int32]
    """[p] position of the user in the batch."""
    item: NDArray[np.int32]
    """[p]"""
    users: NDArray[np.int32]
    """[u] the different ones of `row`."""
    negatives: NDArray[np.int32] | None
    """[u, n]"""


def _part(task: Task, segment: Segment, batch: slice, options: Evaluate | None) -> _Part:
    where = slice(*np.searchsorted(segment.user, [batch.start, batch.stop]).tolist())
    users = np.unique(segment.user[where])
    negatives = None
    if options is not None:
        negatives = sampled.draw(
            task.users.take(users), task.liked.take(users), segment.candidates, options.negatives, options.seed
        )
    return _Part(where, segment.user[where] - batch.start, segment.item[where], users - batch.start, negatives)


def _sample(segment: Segment, keys: tuple[Keys, Keys]) -> Sample:
    return Sample.of(segment.user, segment.item, np.ones(len(segment.user), np.int8), *keys)


def _enough(counts: dict[str, int], options: Evaluate) -> bool:
    return counts["positives"] >= options.min_rows and counts["ranked_users"] >= max(options.min_users, 1)


def _without(system: System, task: Task) -> dict[str, int]:
    return {
        "users": int(system.unknown_users.sum()),
        "warm items": int(system.unknown_items[: task.warm].sum()),
        "cold items": int(system.unknown_items[task.warm :].sum()),
    }


def _protocol(task: Task, segments: dict[str, Segment], split: str, options: Evaluate) -> dict[str, Any]:
    seeds = _seeds(options)
    drawn = f"seed {options.seed}" if len(seeds) == 1 else f"means over seeds {seeds[0]} to {seeds[-1]}"
    rare = {"rare": f"positives of items with a training positive of fewer than {options.rare_below} users"}
    return {
        "candidates": {name: len(segment.candidates) for name, segment in segments.items()},
        "warm": "items with a row in split=train",
        "cold": "items without one: held out, or with a row in any other split",
        **(rare if "rare" in segments else {}),
        "positives": f"user and item pairs with label 1 in split={split}, less {task.repeated:,} also in split=train",
        "users": "those with a positive in the segment, each weighing the same",
        "masked": "the user's own positives in split=train, nothing else",
        "ties": f"equal scores rank in a random order of each user's own, {drawn}",
        "sampled": (
            f"{options.negatives} candidates of the segment a user, none that the user has a positive row for in any "
            f"split; the same for all systems and all positives of the user, {drawn}"
        ),
    }
