"""The tiny dataset with kept rows of its new items, and a run of it whose weights are drawn instead of trained."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys import runs
from recsys.config import Config
from recsys.data.schema import read_info, split_files, write_info
from recsys.distributed import Ranks
from recsys.predict import predict
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.tables.version import Version
from recsys.train import build, fitted
from tests import tiny

KEPT, TEST = 5, 301
NEW = pa.array([f"item {k:02d}" for k in range(tiny.ITEMS - tiny.NEW, tiny.ITEMS)])


def config(home: Path, **floor: object) -> Config:
    """A ranker with large weights, and an item table without a spare row; `floor` are keys of `config.floor`."""
    model = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4, "init_std": 0.5, "dropout": 0.3}
    floor = {"content": str(home / "content.parquet"), "prior": 2.0, **floor}
    warm = tiny.ITEMS - tiny.NEW
    return tiny.config(home / "data", home / "run", model=model, item_capacity=warm + 1, floor=floor)


def write(home: Path) -> Path:
    """Write the dataset to `home/data`, with `KEPT` ranked rows of each new item, and content vectors beside it."""
    data = tiny.write(home / "data", {"train": 203, "valid": 41, "test": TEST})
    rows = pq.read_table(split_files(data, "valid")[0])[: KEPT * tiny.NEW]
    rows = rows.set_column(1, "item_id", pa.array(NEW.to_pylist() * KEPT))
    ranks = np.repeat(np.arange(1, KEPT + 1), tiny.NEW).astype(np.int32)
    folder = data / "interactions" / "split=feedback"
    folder.mkdir()
    pq.write_table(rows.append_column("rank", pa.array(ranks)), folder / "part-00000.parquet", row_group_size=7)
    write_info(replace(read_info(data), exposures=[0, 2, KEPT], fingerprint="tiny"), data)
    vectors = np.random.default_rng(2).normal(size=(tiny.ITEMS, 3)).tolist()
    ids = [f"item {k:02d}" for k in range(tiny.ITEMS)]
    vectors[-1] = None  # one new item has no content
    pq.write_table(pa.table({"item_id": ids, "vector": vectors}), home / "content.parquet", row_group_size=11)
    return home


def run(made: Config, ranks: Ranks) -> None:
    """A checkpoint of weights as drawn, and the test rows' scores by it. Collective."""
    shutil.rmtree(made.run, ignore_errors=True)
    runs.begin(made)
    sharded = build(made, fitted(made, ranks), ranks)
    with torch.no_grad():
        for parameter in sharded.model.module.ranker.dense_arch.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    checkpoint.save(Path(made.run) / "checkpoints", sharded, Progress(step=1), 1, Version("tables", "run", 1))
    predict(made, "test", ranks)
