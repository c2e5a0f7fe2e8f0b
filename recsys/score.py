"""Score one split with a sharded model, in a stream."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchrec.distributed.train_pipeline import EvalPipelineSparseDist

from recsys.data.reader import Reader
from recsys.tables.sharding import Sharded


def score(sharded: Sharded, reader: Reader, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """(logit, label, weight, row_id), each [B] on `device`, for every batch of this rank's share. Collective.

    Padding rows carry weight 0. The model is left in evaluation mode.
    """
    sharded.model.eval()
    # A new pipeline and a new iterator each time: torchrec's pipelines run no step on an iterator they saw exhausted.
    pipeline = EvalPipelineSparseDist(sharded.model, sharded.optimizer, device)
    batches = iter(reader.epoch())
    with torch.no_grad():
        for _ in range(reader.steps):
            _, *scored = pipeline.progress(batches)
            yield tuple(scored)
