"""What the rows are measured against: the library itself, used as its documentation shows, with nothing around it.

`train`: torchrec's train pipelines over batches that are already in memory. Both documented pipelines that run on CPU
are measured and the faster is the bound. Each is built once and fed from one endless iterator, so that it is filled
once and never drained.
"""

from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from torchrec.distributed.train_pipeline import TrainPipelineBase, TrainPipelineSparseDist

from recsys.data.batch import Batch
from recsys.tables.sharding import Sharded

PIPELINES: dict[str, Callable] = {
    "TrainPipelineSparseDist": TrainPipelineSparseDist,
    "TrainPipelineBase": TrainPipelineBase,
}


class Bare:
    """One torchrec pipeline over batches in memory."""

    def __init__(self, pipeline: str, sharded: Sharded, batches: list[Batch], device: torch.device) -> None:
        sharded.model.train()
        self.pipeline = PIPELINES[pipeline](sharded.model, sharded.optimizer, device)
        self.batches: Iterator[Batch] = cycle(batches)

    def run(self, steps: int) -> None:
        """Train so many steps."""
        for _ in range(steps):
            self.pipeline.progress(self.batches)
