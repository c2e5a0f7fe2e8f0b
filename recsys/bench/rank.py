"""Row `rank`: users a second through our full ranking, against the bare matrix product and `torch.topk`.

Same vectors, same batches of users, one process. Ours is `recsys.evaluate.ranking.rank` of one segment, all items: it
masks each user's training positives, takes the best K, and finds the rank of each positive among them; the bare loop
gives the best K of all items. Contenders alternate, so that what else the machine does falls on both; the ratio is the
median over rounds of (ours / bound) within a round. The detail has the ratio of the same with sampled negatives, which
the bound knows nothing of.
"""

import time
from statistics import median

import numpy as np
import pyarrow as pa
import torch

from recsys.bench.frame import Measured, median_ratio
from recsys.config import Config, Evaluate
from recsys.distributed import Ranks
from recsys.evaluate import ranking, topk
from recsys.evaluate.positives import Task, lists
from recsys.evaluate.ties import Ties
from recsys.evaluate.vectors import Vectors

USERS, ITEMS, DIM = 20_000, 20_000, 64
MASKED, POSITIVES = 50, 10
"""Of each user, in the mean."""
OPTIONS = Evaluate()
"""Best 20, 100 negatives."""
ROUNDS, FEWEST = 7, 3
SECONDS = 40.0
"""Rounds of all contenders: so many, or on a slow machine as many as fit into the time, but not fewer than FEWEST."""
REQUIRED = 0.55
SAMPLED = "ours, with sampled negatives"


class Ranking:
    """Synthetic users and items, and what each user liked."""

    def __init__(self, users: int, items: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        user, item = (random.normal(size=(n, DIM)).astype(np.float32) for n in (users, items))
        self.vectors = Vectors(user, item, np.zeros(users, bool), np.zeros(items, bool))
        liked = np.unique(random.integers(0, users * items, users * (MASKED + POSITIVES)))
        positive = random.random(len(liked)) < POSITIVES / (MASKED + POSITIVES)
        ids = pa.array(range(users))
        self.task = Task(
            users=ids,
            items=pa.array(range(items)),
            warm=items,
            ties=Ties.of(ids, items, seed),
            positives=lists(liked[positive], users, items),
            masked=lists(liked[~positive], users, items),
            liked=lists(liked, users, items),
            repeated=0,
        )

    def ours(self, sample: bool = False) -> None:
        """The ranks of all users' positives."""
        segments = {"all": ranking.segments_of(self.task)["all"]}
        ranking.rank(self.task, [self.vectors], segments, OPTIONS, sample=sample)

    def bare(self) -> None:
        """The best K of all items for all users."""
        users, items = torch.from_numpy(self.vectors.users), torch.from_numpy(self.vectors.items)
        for batch in topk.batches(len(users), len(items)):
            torch.topk(users[batch] @ items.T, max(OPTIONS.top_k))


def measure(config: Config, ranks: Ranks) -> Measured:
    """The row at its full size, on one rank; it needs nothing of the config."""
    return compare(USERS, ITEMS)


def compare(users: int, items: int) -> Measured:
    """Rates in users a second."""
    ranked = Ranking(users, items)
    contenders = {
        "ours": ranked.ours,
        SAMPLED: lambda: ranked.ours(sample=True),
        "matrix product and torch.topk": ranked.bare,
    }
    for run in contenders.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    names, spent = list(contenders), 0.0
    for k in range(ROUNDS):
        if k >= FEWEST and spent * (k + 1) / k > SECONDS:
            break
        first = k % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            contenders[name]()
            took = time.perf_counter() - start
            rates[name].append(users / took)
            spent += took
    detail = {"users": users, "items": items, "dim": DIM, "k": max(OPTIONS.top_k), "threads": torch.get_num_threads()}
    sampled = rates.pop(SAMPLED)
    row = median_ratio(rates, unit="users/s", required=REQUIRED, detail=detail)
    pairs = zip(sampled, rates[row.bound_is], strict=True)
    row.detail["ratio with sampled negatives"] = median(ours / bound for ours, bound in pairs)
    return row
