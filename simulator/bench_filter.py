"""Row `filter`: items a second from content to candidate users, one by one, against bare search of the same index.

Ours is both item towers' forward and `retrieve.top`; the bound is `faiss.Index.search` with vectors that are there. The
index is flat. `detail` has the same on IVF-PQ, whose search is so short that the towers are a larger part of it.
"""

import time
from collections.abc import Callable
from statistics import median

import faiss
import numpy as np
import torch

from recsys.bench.frame import Measured, alternated
from recsys.config import Config
from recsys.config_simulator import Filter, Retrieve
from recsys.distributed import Ranks
from simulator import retrieve, towers
from simulator.towers import ItemTowers

USERS, CONTENT, K = 200_000, 576, 50
CALLS, ROUNDS = 50, 7
REQUIRED = 1 / 1.2
CODED = Retrieve(index="ivf-pq", bytes=32, probe=32)


def measure(config: Config, ranks: Ranks) -> Measured:
    """Rates in items a second, on one rank; it needs nothing of the config."""
    return compare(USERS, CALLS, ROUNDS)


def compare(users: int, calls: int, rounds: int) -> Measured:
    """Rates of `calls` items a turn, among so many users."""
    random, options = np.random.default_rng(0), Filter()
    width = 2 * options.width
    vectors = random.normal(size=(users, width)).astype(np.float32)
    made = [towers.tower(CONTENT, options.hidden, options.width) for _ in range(2)]
    model = ItemTowers(made, torch.zeros(CONTENT), torch.ones(())).eval()
    content = torch.from_numpy(random.normal(size=(calls, 1, CONTENT)).astype(np.float32))
    coded = _contenders(model, retrieve.build(vectors, CODED), content)
    times = {name: _milliseconds(turn, calls) for name, turn in coded.items()}
    detail = {
        "users": users,
        "candidates": K,
        "ivf-pq, ms an item": times,
        "ivf-pq, search alone over ours": times["search"] / times["ours"],
    }
    contenders = _contenders(model, retrieve.build(vectors, Retrieve()), content)
    for contender in contenders.values():
        contender()
    return alternated(contenders, calls, "items/s", REQUIRED, rounds, detail)


def _contenders(model: ItemTowers, index: faiss.Index, content: torch.Tensor) -> dict[str, Callable[[], object]]:
    with torch.inference_mode():
        ready = [model(one).numpy() for one in content]

    @torch.inference_mode()
    def ours() -> None:
        for one in content:
            retrieve.top(index, model(one).numpy(), K)

    def search() -> None:
        for one in ready:
            index.search(one, K)

    return {"ours": ours, "search": search}


def _milliseconds(turn: Callable[[], object], calls: int) -> float:
    """Of one item: the median of some turns."""
    found = []
    for _ in range(5):
        start = time.perf_counter()
        turn()
        found.append(1000 * (time.perf_counter() - start) / calls)
    return median(found)
