"""The two prompt-enhanced losses of PROMO (eqs. 8, 9, 11 and 12), by means instead of sums.

The paper sums distances over all pairs and outputs, and differences over all pairs of a batch: at tens of outputs and
hundreds of pairs the loss is saturated before the first step. A mean asks for the same at any size.

Legend: B batch, K and Q users in the two lists, D width of the network's outputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

BLOCK, BLOCK_CUDA = 2**18, 2**26
"""Differences held at a time: on a CPU a megabyte, which stays in a core's cache."""


def pfpe(positive_BKD: Tensor, negative_BQD: Tensor, positive_BK: Tensor, negative_BQ: Tensor) -> Tensor:
    """The pinnacle-feedback prompt-enhanced loss of each row (eqs. 8 and 9): softplus of minus their mean distance.

    Args:
        positive_BKD, negative_BQD: float32, what the item's network makes of each user of the two lists; finite.
        positive_BK, negative_BQ: bool, which of them are real.

    Returns:
        [B] float32; the distance is the mean over pairs and outputs of |x - y|. Zero where either list is empty.
    """
    pairs_B = positive_BK.sum(dim=1) * negative_BQ.sum(dim=1)
    mean_B = distance(positive_BKD, negative_BQD, positive_BK, negative_BQ) / (
        pairs_B.clamp(min=1) * positive_BKD.shape[-1]
    )
    return softplus(-mean_B) * (pairs_B > 0)


def distance(one_BKD: Tensor, other_BQD: Tensor, one_BK: Tensor, other_BQ: Tensor) -> Tensor:
    """[B] float32 sums of |x - y| over D and all real pairs of x [B, K, D] and y [B, Q, D] float32.

    The differences of all pairs are gone through once, and held in no more than a block.
    """
    found: Tensor = _Distance.apply(one_BKD, other_BQD, one_BK, other_BQ)
    return found


class _Distance(torch.autograd.Function):
    """What the gradient needs gives the value, too: with s = sign(x - y) over all pairs,

    sum |x - y| = sum over x of x (sum over y of s) - sum over y of y (sum over x of s)
    """

    @staticmethod
    def forward(ctx: Any, one_BKD: Tensor, other_BQD: Tensor, one_BK: Tensor, other_BQ: Tensor) -> Tensor:
        to_one, to_other = torch.empty_like(one_BKD), torch.empty_like(other_BQD)
        places, (others, width) = one_BKD.shape[1], other_BQD.shape[1:]
        size = max((BLOCK_CUDA if one_BKD.is_cuda else BLOCK) // max(places * others * width, 1), 1)
        held = one_BKD.new_empty(min(size, len(one_BKD)), places, others, width)
        for start in range(0, len(one_BKD), size):
            some = slice(start, start + size)
            one, other = one_BKD[some].unsqueeze(2), other_BQD[some].unsqueeze(1)
            signs = torch.sub(one, other, out=held[: len(one)]).sign_()
            pair = one_BK[some].unsqueeze(2) & other_BQ[some].unsqueeze(1)
            if not pair.all():
                signs.mul_(pair.unsqueeze(3).to(signs))
            torch.sum(signs, dim=2, out=to_one[some])
            torch.sum(signs, dim=1, out=to_other[some])
        ctx.save_for_backward(to_one, to_other.neg_())
        return (one_BKD * to_one).sum(dim=(1, 2)) + (other_BQD * to_other).sum(dim=(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """[B] -> of x and of y."""
        to_one, to_other = (each * gradients[0][:, None, None] for each in ctx.saved_tensors)
        return to_one, to_other, None, None


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
