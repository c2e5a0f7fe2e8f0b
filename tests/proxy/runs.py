"""A tiny run whose item table is filled with known values: what targets are read from."""

from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from recsys import settings
from recsys.config import Config
from recsys.data.schema import read_info, write_info
from recsys.distributed import process_group
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.tables.version import Version
from recsys.train import build, fitted
from tests import tiny

ITEM = "ranker.items.embeddings.item_id.weight"


def config(home: Path, **align: object) -> Config:
    small = {
        "tau": 5,
        "hidden": [16],
        "epochs": 2,
        "folds": 2,
        "recall": [1, 5],
        "valid_share": 0.2,
        "test_share": 0.2,
        **align,
    }
    return tiny.config(home / "data", home / "run", proxy={"align": small, "encoder": {"tokens": 16, "bf16": False}})


def save(home: Path) -> None:
    """An untrained run's checkpoint: what `tools.train` leaves."""
    with process_group() as ranks:
        made = config(home)
        sharded = build(made, fitted(made, ranks), ranks)
        version = Version("tables", "run", 7)
        checkpoint.save(home / "run" / "checkpoints", sharded, Progress(step=7, best_auc=0.5), 1, version)
        write_info(read_info(made.data.path), home / "run")
        settings.dump(made, home / "run" / "config.yaml")


def table(home: Path) -> torch.Tensor:
    """The item table [N, D] as `torch.distributed.checkpoint` reads it."""
    source = checkpoint.best(home / "run" / "checkpoints")
    state = {"model": {ITEM: torch.empty(checkpoint.stored_tensors(source)[ITEM])}}
    dcp.load(state, checkpoint_id=source)
    return state["model"][ITEM]
