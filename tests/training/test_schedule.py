"""Heights of the learning rate against torch's schedulers, and independent of who makes the steps."""

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from recsys.config_train import Decay, Train
from recsys.errors import InputError
from recsys.settings import parse
from recsys.training.schedule import height

STEPS = 50


def theirs(decay: str, warm: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rest = STEPS - warm
    after: LRScheduler
    if decay == "linear":
        after = LinearLR(optimizer, 1.0, 0.0, total_iters=rest)
    elif decay == "cosine":
        after = CosineAnnealingLR(optimizer, T_max=rest)
    else:
        after = ConstantLR(optimizer, 1.0)
    both: LRScheduler = after
    if warm:
        rising = LinearLR(optimizer, 1 / warm, 1.0, total_iters=warm - 1)
        both = SequentialLR(optimizer, [rising, after], milestones=[warm])
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    return found


@pytest.mark.parametrize("warm", [0, 2, 10])
@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_heights_are_those_of_torchs_schedulers(decay: Decay, warm: int) -> None:
    train = Train(decay=decay, warmup=warm / STEPS)
    ours = [height(train, step / STEPS, 1 / STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(theirs(decay, warm), abs=1e-9)
    assert max(ours) == pytest.approx(1.0) and min(ours) >= 0


def test_a_run_that_was_begun_with_a_switch_means_the_same() -> None:
    assert parse({"train": {"decay": True}}).train.decay == Train().decay == "linear"
    assert parse({"train": {"decay": False}}).train.decay == "constant"
    with pytest.raises(InputError, match=r"train.decay: .*'linear', 'cosine' or 'constant'"):
        parse({"train": {"decay": "step"}})
