"""The two prompt-enhanced losses of PROMO (eqs. 8, 9, 11 and 12), by means instead of sums.

The paper sums distances over all pairs and outputs, and differences over all pairs of a batch: at tens of outputs and
hundreds of pairs the loss is saturated before the first step. A mean asks for the same at any size.

Legend: B batch, K and Q users in the two lists, D width of the network's outputs.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def pfpe(positive_BKD: Tensor, negative_BQD: Tensor, positive_BK: Tensor, negative_BQ: Tensor) -> Tensor:
    """The pinnacle-feedback prompt-enhanced loss of each row (eqs. 8 and 9): softplus of minus their mean distance.

    Args:
        positive_BKD, negative_BQD: float, what the item's network makes of each user of the two lists.
        positive_BK, negative_BQ: bool, which of them are real.

    Returns:
        [B] float32; the distance is the mean over pairs and outputs of |x - y|. Zero where either list is empty.
    """
    pair_BKQ = positive_BK.unsqueeze(2) & negative_BQ.unsqueeze(1)
    # The kernel keeps B K Q distances; differences of all pairs would be D times as many.
    distance_BKQ = torch.cdist(positive_BKD.float(), negative_BQD.float(), p=1) / positive_BKD.shape[-1]
    pairs_B = pair_BKQ.sum(dim=(1, 2))
    mean_B = (distance_BKQ * pair_BKQ).sum(dim=(1, 2)) / pairs_B.clamp(min=1)
    return softplus(-mean_B) * (pairs_B > 0)


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
