"""How well proxies find the IDs they stand for: the rank of an item's own ID among all targets, by cosine, exactly.

Legend: n proxies, N targets, D width, M metrics, R replicates.

Equal scores are ranked in any order, and each metric is its mean over those orders: proxies that say nothing get what
chance gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from recsys.evaluate.topk import batches

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Of each of n proxies: how many targets beat its own, and how many others equal it; [n] int64."""

    above: NDArray[np.int64]
    equal: NDArray[np.int64]
    cosine: Values
    """[n] float64 to its own target."""


@torch.no_grad()
def find(proxies: Tensor, targets: Tensor, own: NDArray[np.int64]) -> Found:
    """Rank the target own[k] for proxy k among all.

    Args:
        proxies: [n, D] of any length; targets: [N, D], on the same device. own: [n] from 0 to N - 1.
    """
    proxies, targets = normalize(proxies.float()), normalize(targets.float())
    parts = []
    for some in batches(len(proxies), len(targets)):
        scores = proxies[some] @ targets.T
        true = scores.gather(1, torch.from_numpy(own[some]).to(scores.device)[:, None])
        parts.append((((scores > true).sum(1)), ((scores == true).sum(1) - 1), true[:, 0]))
    above, equal, cosine = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return Found(above, equal, cosine.astype(np.float64))


def names(recall: Sequence[int]) -> list[str]:
    """The M metrics: recall@K of each K, mrr, auc, cosine."""
    return [*(f"recall@{k}" for k in recall), "mrr", "auc", "cosine"]


def measures(found: Found, targets: int, recall: Sequence[int]) -> Values:
    """[M, n] what each proxy adds to the mean of each of `names`.

    auc is the share of the other IDs that the true one beats: recall@K averaged over all K, 0.5 by chance. It is what
    moves first and is steadiest on few items.

    Args:
        targets: N, at least 2.
    """
    tied = found.equal + 1
    hits = [np.clip((k - found.above) / tied, 0, 1) for k in recall]
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, targets + 1)))
    reciprocal = (harmonic[found.above + tied] - harmonic[found.above]) / tied
    beaten = 1 - (found.above + found.equal / 2) / (targets - 1)
    return np.array([*hits, reciprocal, beaten, found.cosine])


def interval(values: Values, replicates: int, seed: int) -> Values:
    """[M, 3] mean, low, high of values [M, n]: a 95 % bootstrap interval over the n items.

    Of the difference of two systems' measures on the same items it is the interval of a paired difference.
    """
    n = values.shape[1]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), replicates) / n
    low, high = np.quantile(drawn @ values.T, [0.025, 0.975], axis=0)
    return np.stack([values.mean(axis=1), low, high], axis=1)
