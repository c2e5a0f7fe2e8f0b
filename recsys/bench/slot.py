"""Row `slot`: rows a second of a ranker with proxies in its ID slot (IDProxy's v5), against the same ranker without.

The adaptor sees each distinct item of a batch once in every step. That is what a slot costs, and it does not grow with
the batch once that names most items: on MovieLens-1M's 3,883 items, 2,700 of them with 512 rows and 3,100 with 2,048.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch.distributed as dist

from recsys.bench.data import make
from recsys.bench.frame import Measured, alternated
from recsys.bench.train import WARM_UP, Ours
from recsys.config import Config
from recsys.data.fit import fit
from recsys.distributed import Ranks
from recsys.files import replacing
from recsys.tables import content

GROUPS, WIDTH = 3, 384
"""Layer groups of MiniLM, as stage 2 has them."""
ROUNDS, STEPS = 7, 40
REQUIRED = 0.3


def measure(config: Config, ranks: Ranks) -> Measured:
    """Make the bench's dataset, unless it is there, and compare on it. Collective over one rank."""
    make(config.data)
    return compare(config, ranks)


def compare(config: Config, ranks: Ranks, rounds: int = ROUNDS, steps: int = STEPS, width: int = WIDTH) -> Measured:
    """Rates in rows a second. Collective over one rank."""
    folder = Path(config.run) / "content"
    coarse = _draw(config, folder / "coarse.parquet", config.model.dim)
    layers = _draw(config, folder / "layers.parquet", GROUPS * width)
    dist.barrier()
    proxy = replace(config.model.proxy, place="slot", coarse=str(coarse), layers=str(layers))
    slotted = replace(config, run=str(folder / "run"), model=replace(config.model, proxy=proxy))
    loops = []
    for each in (slotted, config):
        encoder = fit(each)
        loops.append(Ours(each, encoder, ranks))
        content.fill(loops[-1].loop.sharded, encoder, ranks)
        loops[-1].run(min(WARM_UP, steps))
    batch = next(loops[0].loop.reader.epoch())
    detail = {
        "batch_size": config.train.batch_size,
        "distinct items": len(batch.content_index.unique()),
        "positions": len(batch.content_index),
        "widths": [config.model.dim, GROUPS * width],
        "adaptor": list(proxy.adaptor),
    }
    contenders = {"ours": lambda: loops[0].run(steps), "without proxies": lambda: loops[1].run(steps)}
    return alternated(contenders, steps * config.train.batch_size, "rows/s", REQUIRED, rounds, detail)


def _draw(config: Config, path: Path, width: int) -> Path:
    """Vectors for every item of the dataset."""
    items = pq.read_table(Path(config.data.path) / "items.parquet", columns=["item_id"])["item_id"]
    flat = np.random.default_rng(0).normal(size=len(items) * width).astype(np.float32)
    with replacing(path) as partial:
        pq.write_table(
            pa.table({"item_id": items, "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), width)}), partial
        )
    return path
