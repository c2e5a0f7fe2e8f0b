"""The command `tools.train`, one rank of which suffers something before its so many-th step, once.

torchrun ... -m tests.training.dying RANK STEP CONFIG [key=value ...]        it dies by SIGKILL

Only torchrec's pipeline is watched; nothing in the product knows of it. A rank that torchrun has started again lives.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from tools import train


def main(rank: str, step: str, *arguments: str) -> None:
    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == (rank, "0"):
        before(int(step), lambda: os.kill(os.getpid(), signal.SIGKILL))
    train.main(list(arguments))


def before(step: int, suffer: Callable[[], object]) -> None:
    """Call `suffer` before this process' so many-th training step."""
    original, left = TrainPipelineSparseDist.progress, [step]

    def counted(self: Any, batches: Any) -> Any:
        if self._model.training:
            left[0] -= 1
            if not left[0]:
                suffer()
        return original(self, batches)

    TrainPipelineSparseDist.progress = counted


if __name__ == "__main__":
    main(*sys.argv[1:])
