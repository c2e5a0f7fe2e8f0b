"""A run's best checkpoint in plain PyTorch, with rows of their own for some items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from recsys.coldrows.frozen import Frozen
from recsys.model.ranker import DenseArch
from recsys.tables import checkpoint
from tests.plain import Plain


def lengthened(frozen: Frozen, items: pa.Array, rows: Tensor) -> tuple[Plain, np.ndarray]:
    """The item table as long as it must be and filled with E = `rows`; and where E's rows are in it."""
    made = frozen.encoder.config
    best = checkpoint.best(Path(made.run) / "checkpoints")
    state = {name: torch.empty(shape) for name, shape in checkpoint.stored_tensors(best).items()}
    dcp.load({"model": state}, checkpoint_id=best, no_dist=True)
    dense = DenseArch(frozen.encoder.spec, made.model)
    dense.load_state_dict({n.split("dense_arch.")[1]: x for n, x in state.items() if "dense_arch." in n})
    tables = {n.split(".")[-2]: x for n, x in state.items() if "dense_arch." not in n}
    place = frozen.encoder.maps["item_id"].rows(items)
    table = tables["item_id"]
    longer = torch.full((max(place.max() + 1, len(table)), rows.shape[1]), torch.nan)
    longer[: len(table)] = table
    longer[place] = rows
    return Plain(dense.eval(), {**tables, "item_id": longer}, made.train), place
