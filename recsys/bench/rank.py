"""Row `rank`: users a second through our full ranking, against the bare matrix product and `torch.topk`.

Same vectors, same batches of users, one process. Ours masks each user's training positives, takes the best K, and finds
the rank of each positive among them; the bare loop gives the best K of all items. Contenders alternate, so that what
else the machine does falls on both; the ratio is the median over rounds of (ours / bound) within a round.
"""

import time

import numpy as np
import pyarrow as pa
import torch

from recsys.bench.frame import Measured, median_ratio
from recsys.config import Config
from recsys.data.jagged import Jagged
from recsys.distributed import Ranks
from recsys.evaluate import topk
from recsys.evaluate.ties import Ties

USERS, ITEMS, DIM = 20_000, 20_000, 64
MASKED, POSITIVES = 50, 10
"""Of each user, in the mean."""
K = 20
ROUNDS, FEWEST = 7, 3
SECONDS = 40.0
"""Rounds of both contenders: so many, or on a slow machine as many as fit into the time, but not fewer than FEWEST."""
REQUIRED = 0.7


class Ranking:
    """Synthetic users and items, and what each user liked."""

    def __init__(self, users: int, items: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.users, self.items = (
            torch.from_numpy(random.normal(size=(n, DIM)).astype(np.float32)) for n in (users, items)
        )
        liked = np.unique(random.integers(0, users * items, users * (MASKED + POSITIVES)))
        positive = random.random(len(liked)) < POSITIVES / (MASKED + POSITIVES)
        self.masked, self.positives = (_lists(pairs, users, items) for pairs in (liked[~positive], liked[positive]))
        self.ties = Ties.of(pa.array(range(users)), items, seed)

    def ours(self) -> None:
        """Masks, top K and the ranks of positives of all users, as `recsys.evaluate.ranking` has them."""
        candidates = range(len(self.items))
        for batch in topk.batches(len(self.users), len(self.items)):
            where = (batch.start, batch.stop)
            scores = topk.score(self.users[batch], self.items, self.masked.slice(*where))
            positives = self.positives.slice(*where)
            row = np.repeat(np.arange(len(scores), dtype=np.int32), positives.lengths)
            topk.ranks(scores, candidates, self.ties.slice(*where), row, positives.values, K)

    def bare(self) -> None:
        """The best K of all items for all users."""
        for batch in topk.batches(len(self.users), len(self.items)):
            torch.topk(self.users[batch] @ self.items.T, K)


def measure(config: Config, ranks: Ranks) -> Measured:
    """The row at its full size, on one rank; it needs nothing of the config."""
    return compare(USERS, ITEMS)


def compare(users: int, items: int) -> Measured:
    """Rates in users a second."""
    ranking = Ranking(users, items)
    contenders = {"ours": ranking.ours, "matrix product and torch.topk": ranking.bare}
    for run in contenders.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    names, spent = list(contenders), 0.0
    for k in range(ROUNDS):
        if k >= FEWEST and spent * (k + 1) / k > SECONDS:
            break
        for name in names[k % 2 :] + names[: k % 2]:
            start = time.perf_counter()
            contenders[name]()
            took = time.perf_counter() - start
            rates[name].append(users / took)
            spent += took
    detail = {"users": users, "items": items, "dim": DIM, "k": K, "threads": torch.get_num_threads()}
    return median_ratio(rates, unit="users/s", required=REQUIRED, detail=detail)


def _lists(pairs: np.ndarray, users: int, items: int) -> Jagged:
    return Jagged((pairs % items).astype(np.int32), np.searchsorted(pairs, np.arange(users + 1) * items))
