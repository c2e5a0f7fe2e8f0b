"""An item's best users among all, by FAISS: maximum inner product, exact (flat) or approximate (IVF-PQ).

    index = retrieve.build(users, config.simulator.retrieve)
    retrieve.write(index, path)
    codes, scores = retrieve.top(retrieve.read(path), items, 50)

An index that is read is mapped: of one larger than memory, pages come as they are searched, and processes share them.
A build of FAISS for GPUs searches on the first of them, which holds the index then; this was not run.
"""

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.config_simulator import Retrieve
from recsys.errors import InputError
from recsys.files import replacing

BATCH = 1024
"""Items searched for at a time."""
CODED = 256
"""ivf-pq: users there must be, one for each value of a byte of the codes."""
TRAINED = 64
"""ivf-pq: users a cell that its middle and the codes are fitted on, a sample of all."""


def build(users: NDArray[np.float32], options: Retrieve, seed: int = 0) -> faiss.Index:
    """An index over users [U, D]; codes are their rows.

    Raises:
        InputError: ivf-pq with a code whose bytes do not divide D, or of fewer than 256 users.
    """
    count, width = users.shape
    if options.index == "flat":
        index: faiss.Index = faiss.IndexFlatIP(width)
    else:
        if width % options.bytes:
            raise InputError(f"simulator.retrieve.bytes={options.bytes}: expected a divisor of the width, {width}")
        if count < CODED:
            raise InputError(
                f"simulator.retrieve.index=ivf-pq: expected {CODED} users at least, found {count}: say flat"
            )
        lists = min(options.lists or int(4 * count**0.5), count)
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(width), width, lists, options.bytes, 8, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = min(options.probe, lists)
        fitted = np.random.default_rng(seed).permutation(count)[: max(TRAINED * lists, 1 << 14)]
        index.train(np.ascontiguousarray(users[np.sort(fitted)]))
    for start in range(0, count, 1 << 16):
        index.add(np.ascontiguousarray(users[start : start + (1 << 16)]))
    return index


def write(index: faiss.Index, path: Path) -> None:
    """Write the index, all of it or none."""
    with replacing(path) as partial:
        faiss.write_index(index, str(partial))


def read(path: Path) -> faiss.Index:
    """The index, mapped.

    Raises:
        InputError: no such file, or not an index.
    """
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as an index: {str(error).splitlines()[-1]}") from None
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    return index


def top(index: faiss.Index, items: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best users of items [I, D]: codes [I, K] int64, best first, and scores [I, K] float32; K = min(k, U).

    Where the searched cells of an IVF-PQ index hold fewer, codes are -1 from there on. Its scores are those of codes,
    not of vectors.
    """
    k = min(k, index.ntotal)
    codes, scores = np.empty((len(items), k), np.int64), np.empty((len(items), k), np.float32)
    for start in range(0, len(items), BATCH):
        some = slice(start, start + BATCH)
        scores[some], codes[some] = index.search(np.ascontiguousarray(items[some]), k)
    return codes, scores
