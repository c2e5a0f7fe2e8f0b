"""The two prompt-enhanced losses of PROMO (eqs. 8, 9, 11 and 12), by means instead of sums.

The paper sums distances over all pairs and outputs, and differences over all pairs of a batch: at tens of outputs and
hundreds of pairs the loss is saturated before the first step. A mean asks for the same at any size.

Legend: B batch, K and Q users in the two lists, D width of the network's outputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

BLOCK = 2**18
"""Differences held at a time by the gradient of distances: a megabyte, which stays in a core's cache."""


def pfpe(positive_BKD: Tensor, negative_BQD: Tensor, positive_BK: Tensor, negative_BQ: Tensor) -> Tensor:
    """The pinnacle-feedback prompt-enhanced loss of each row (eqs. 8 and 9): softplus of minus their mean distance.

    Args:
        positive_BKD, negative_BQD: float, what the item's network makes of each user of the two lists.
        positive_BK, negative_BQ: bool, which of them are real.

    Returns:
        [B] float32; the distance is the mean over pairs and outputs of |x - y|. Zero where either list is empty.
    """
    pair_BKQ = positive_BK.unsqueeze(2) & negative_BQ.unsqueeze(1)
    distance_BKQ = manhattan(positive_BKD.float(), negative_BQD.float()) / positive_BKD.shape[-1]
    pairs_B = pair_BKQ.sum(dim=(1, 2))
    mean_B = (distance_BKQ * pair_BKQ).sum(dim=(1, 2)) / pairs_B.clamp(min=1)
    return softplus(-mean_B) * (pairs_B > 0)


def manhattan(one_BKD: Tensor, other_BQD: Tensor) -> Tensor:
    """[B, K, Q] float32 sums over D of |x - y|, for x [B, K, D] and y [B, Q, D] float32.

    B K Q numbers are kept; differences of all pairs would be D times as many.
    """
    if one_BKD.is_cuda:
        return torch.cdist(one_BKD, other_BQD, p=1)
    distance_BKQ: Tensor = _Manhattan.apply(one_BKD, other_BQD)
    return distance_BKQ


class _Manhattan(torch.autograd.Function):
    """torch.cdist with another way to the same gradient: on a CPU torch's goes through all rows once for each few
    columns, out of cache, and takes several times as long."""

    @staticmethod
    def forward(ctx: Any, one_BKD: Tensor, other_BQD: Tensor) -> Tensor:
        ctx.save_for_backward(one_BKD, other_BQD)
        return torch.cdist(one_BKD, other_BQD, p=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """d|x - y| / dx = sign(x - y) = -d|x - y| / dy, summed over the other list."""
        one_BKD, other_BQD = ctx.saved_tensors
        to_one, to_other = torch.empty_like(one_BKD), torch.empty_like(other_BQD)
        places, (others, width) = one_BKD.shape[1], other_BQD.shape[1:]
        size = max(BLOCK // max(places * others * width, 1), 1)
        held = one_BKD.new_empty(min(size, len(one_BKD)), places, others, width)
        for start in range(0, len(one_BKD), size):
            some = slice(start, start + size)
            one, other = one_BKD[some].unsqueeze(2), other_BQD[some].unsqueeze(1)
            moved = torch.sub(one, other, out=held[: len(one)]).sign_().mul_(gradients[0][some].unsqueeze(3))
            torch.sum(moved, dim=2, out=to_one[some])
            torch.sum(moved, dim=1, out=to_other[some])
        return to_one, to_other.neg_()


def pape(logit_B: Tensor, label_B: Tensor, weight_B: Tensor, cold_B: Tensor) -> Tensor:
    """The popularity-aware prompt-enhanced loss of a batch (eqs. 11 and 12), in linear time.

    The mean over all pairs of the difference of their logits is the difference of the two sets' means.

    Args:
        logit_B: float. label_B: float, 0 or 1. weight_B: float, 0 for padding. cold_B: bool, whose item is cold.

    Returns:
        Scalar; zero where the batch has no positive of a cold item, or no negative of a warm one.
    """
    positive_B, negative_B = weight_B * label_B * cold_B, weight_B * (1 - label_B) * ~cold_B
    positives, negatives = positive_B.sum(), negative_B.sum()
    tiny = torch.finfo(logit_B.dtype).tiny
    gap = (logit_B @ positive_B) / positives.clamp(min=tiny) - (logit_B @ negative_B) / negatives.clamp(min=tiny)
    return softplus(-gap) * ((positives > 0) & (negatives > 0))
