"""Row `index`: of an item's 50 best users among ten million by exact search, the share that IVF-PQ finds.

Users are planted around middles in a few latent directions, as users of a filter lie, not evenly in all of them, where
no code is short. `detail` tells what both indexes cost: seconds to build, bytes a user, milliseconds an item, and
nanoseconds for each centre and each code that is looked at, the units that `tools.cost` reckons by.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.bench.frame import Measured
from recsys.config import Config
from recsys.config_simulator import Filter, Retrieve
from recsys.distributed import Ranks
from simulator import retrieve

USERS, ITEMS, K = 10_000_000, 256, 50
LATENT, MIDDLES = 16, 400
REQUIRED = 0.4
PART = 1 << 16
"""Vectors that are drawn at a time."""
CODED = Retrieve(index="ivf-pq", lists=4096, bytes=32, probe=64)


def measure(config: Config, ranks: Ranks) -> Measured:
    """A share, on one rank; it needs nothing of the config."""
    return compare(USERS, ITEMS, CODED)


def compare(users: int, items: int, coded: Retrieve) -> Measured:
    """The share of the true best users of so many items that an index finds."""
    vectors, asked = _planted(users, items, 2 * Filter().width)
    found: dict[str, NDArray[np.int64]] = {}
    detail: dict[str, Any] = {"users": users, "items": items, "candidates": K, "options": asdict(coded)}
    for name, options in (("flat", Retrieve()), ("ivf-pq", coded)):
        begin = time.perf_counter()
        index = retrieve.build(vectors, options)
        built = time.perf_counter()
        found[name], _ = retrieve.top(index, asked, K)
        detail[name] = _costs(index, built - begin, (time.perf_counter() - built) / items)
    recall = _recall(found["ivf-pq"], found["flat"])
    seen = users * min(coded.probe / (coded.lists or 4 * users**0.5), 1.0)
    cells = faiss.extract_index_ivf(index)
    centres = _seconds(lambda: cells.quantizer.search(asked[:, : cells.quantizer.d], cells.nprobe)) / items
    detail["ivf-pq"]["ns a centre"] = 1e9 * centres / cells.nlist
    detail["ivf-pq"]["ns a code"] = (1e6 * detail["ivf-pq"]["ms an item"] - 1e9 * centres) / seen
    return Measured(
        ours=recall,
        bound=1.0,
        ratio=recall,
        unit=f"recall@{K}",
        required=REQUIRED,
        bound_is="flat",
        ratios=[recall],
        rates={"ours": [recall], "flat": [1.0]},
        detail=detail,
    )


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Share of `true` [I, K] that the same line of `found` has."""
    shift = np.arange(len(true))[:, None] * (1 + max(int(found.max()), int(true.max())))
    return float(np.isin(true + shift, np.where(found < 0, -1, found + shift)).mean())


def _costs(index: faiss.Index, build: float, item: float) -> dict[str, float]:
    return {"build seconds": build, "bytes a user": _size(index), "ms an item": 1000 * item}


def _size(index: faiss.Index) -> float:
    """Bytes a user; a flat index, which is nothing but vectors, is not copied to be told."""
    if isinstance(index, faiss.IndexFlat):
        return float(index.code_size)
    return len(faiss.serialize_index(index)) / index.ntotal


def _planted(users: int, items: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of users and of items that ask for them."""
    random = np.random.default_rng(0)
    middles = random.normal(size=(MIDDLES, LATENT)).astype(np.float32)
    spread = random.normal(size=(LATENT, width)).astype(np.float32) / LATENT**0.5

    def around(count: int) -> NDArray[np.float32]:
        made = np.empty((count, width), np.float32)
        for part in np.split(made, range(PART, count, PART)):
            latent = middles[random.integers(0, MIDDLES, len(part))]
            latent += 0.5 * random.standard_normal(latent.shape, np.float32)
            part[:] = latent @ spread + 0.1 * random.standard_normal(part.shape, np.float32)
        return made

    return around(users), around(items)
