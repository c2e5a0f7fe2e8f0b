"""Learning rates over a run, as a share of their full height."""

import math

from recsys.config_train import Train


def height(train: Train, done: float, step: float) -> float:
    """The share of its full learning rate that a step trains with.

    The step k of T is done = k / T, step = 1 / T: shares, since other ranks make other steps of the same epochs. Over
    the warm-up w the height is min(1, (done + step) / w). From there on, with x = (done - w) / (1 - w), it is times
    1 - x (linear), (1 + cos(pi x)) / 2 (cosine) or 1 (constant).

    Args:
        done: share of the planned steps before this one, from 0 to 1.
        step: this step's own share.
    """
    warm = min(1.0, (done + step) / train.warmup) if train.warmup else 1.0
    x = min(1.0, max(0.0, done - train.warmup) / (1.0 - train.warmup))
    if train.decay == "linear":
        return warm * (1.0 - x)
    if train.decay == "cosine":
        return warm * (1.0 + math.cos(math.pi * x)) / 2.0
    return warm
