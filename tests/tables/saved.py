"""One model saved under three shardings and exported from each, for tests of what is stored and exported."""

from pathlib import Path

import numpy as np
import torch
import torch.distributed.checkpoint as dcp

from recsys import settings
from recsys.config import Config
from recsys.distributed import process_group
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.tables.export import export
from recsys.tables.version import Version
from recsys.train import build, fitted
from tests import tiny

PART_ROWS = 7
VERSION = Version("tables", "run", 7)
DIM = 256  # wide enough for torchrec to cut a table by columns
SHARDINGS = ["row_wise", "table_wise", "column_wise"]
ITEM = "ranker.items.embeddings.item_id.weight"
MODEL = {"dim": DIM, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4}


def config(home: Path, sharding: str) -> Config:
    return tiny.config(home / "data", home / sharding, item_sharding=sharding, model=MODEL)


def save_and_export(home: Path) -> None:
    """The same values as three runs' checkpoints: the first is saved as initialised, the others are loaded from it."""
    with process_group() as ranks:
        for sharding in SHARDINGS:
            made = config(home, sharding)
            run = Path(made.run)
            sharded = build(made, fitted(made, ranks), ranks)
            if sharding != SHARDINGS[0]:
                checkpoint.load(best(home, SHARDINGS[0]), sharded, optimizer=False)
            checkpoint.save(run / "checkpoints", sharded, Progress(step=7, best_auc=0.5), 1, VERSION)
            if ranks.is_first:
                settings.dump(made, run / "config.yaml")
            export(made, ranks, part_rows=PART_ROWS)


def best(home: Path, sharding: str) -> Path:
    return checkpoint.best(home / sharding / "checkpoints")


def plain(run: Path) -> dict[str, np.ndarray]:
    """Every table of the best checkpoint, by torch and without a process group."""
    source = checkpoint.best(run / "checkpoints")
    shapes = {k: s for k, s in checkpoint.stored_tensors(source).items() if "embedding" in k}
    state = {"model": {name: torch.empty(shape) for name, shape in shapes.items()}}
    dcp.load(state, checkpoint_id=source)
    return {name.split(".")[-2]: tensor.numpy() for name, tensor in state["model"].items()}
