"""Weights under which an item's simulated rows move its vector by taste, and not by a popularity that was made up.

How many of an item's pairs say Yes is the doing of a threshold, of how far the candidates reach and of how many random
users were drawn. So of an item k, whose rows the ranker scores p_r at the start, the positives weigh w+ and the
negatives w-, with

    A = sum over positives (1 - p_r)      B = sum over negatives p_r      w+ = 2B / (A + B)      w- = 2A / (A + B)

Then sum_r w_r (y_r - p_r) = w+ A - w- B = 0: at the start, nothing is to be had by raising or lowering all of the
item's scores alike, and a user's own rate of liking, which p_r holds, is accounted for as well. Where the pairs say
nothing of the kind (A = B) both weights are 1. An item with pairs of one class has weights of 0.

Legend: n rows of this rank, K items.
"""

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.tune import Passes
from recsys.data.encode import Block

Floats = NDArray[np.float32]


def weights(frozen: Frozen, block: Block, start: Tensor, batch_size: int) -> Floats:
    """[n] of this rank's rows, whose targets are all of the K items, from E = `start` [K, D]. Collective."""
    parts = [np.zeros(0, np.float32)]
    with torch.no_grad():
        for batch in Passes(frozen, block, batch_size):
            real = batch.weight > 0
            parts.append(frozen.logits(batch, start).sigmoid()[real].cpu().numpy())
    score, positive = np.concatenate(parts).astype(np.float64), block.label > 0
    item = frozen.place(block.item_row)
    sums = torch.from_numpy(
        np.stack(
            [
                np.bincount(item, positive * (1 - score), frozen.count),
                np.bincount(item, ~positive * score, frozen.count),
            ]
        )
    ).to(frozen.ranks.device)
    dist.all_reduce(sums)
    positives, negatives = sums.cpu().numpy()
    scale = 2 / np.maximum(positives + negatives, np.finfo(np.float64).tiny)
    return (scale[item] * np.where(positive, negatives[item], positives[item])).astype(np.float32)
