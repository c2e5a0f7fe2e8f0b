"""The command `tools.train`, one rank of which dies by SIGKILL before its so many-th step, once.

torchrun ... -m tests.training.dying RANK STEP CONFIG [key=value ...]

Only torchrec's pipeline is watched; nothing in the product knows of it. A rank that torchrun has started again lives.
"""

import os
import signal
import sys
from typing import Any

from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from tools import train


def main(rank: str, step: str, *arguments: str) -> None:
    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == (rank, "0"):
        _die_before(int(step))
    train.main(list(arguments))


def _die_before(step: int) -> None:
    original, left = TrainPipelineSparseDist.progress, [step]

    def counted(self: Any, batches: Any) -> Any:
        if self._model.training:
            left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batches)

    TrainPipelineSparseDist.progress = counted


if __name__ == "__main__":
    main(*sys.argv[1:])
