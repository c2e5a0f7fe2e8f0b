"""What is expected of an item's ID vector before its rows are seen: where it starts, and how it may differ from there.

The trained vectors of warm items lie along few directions (on MovieLens-1M one holds most of the variance). A prior
with their covariance lets two rows move an item along these and little else; one that pulls every direction alike was
worse on the development draw that `recsys.floor.systems` names: at n = 20 by 0.006 AUC and 0.010 GAUC.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.coldrows.frozen import Frozen
from recsys.data.encode import ITEM

_CHUNK = 65536
_FLOOR = 1e-3


@dataclass(frozen=True)
class Prior:
    """Gaussian for each of K items: mean `start` [K, D] float32, and `covariance` [D, D] float64 of all of them."""

    start: Tensor
    covariance: Tensor

    def factor(self) -> Tensor:
        """Lower-triangular L [D, D] float64 with L L' = covariance, after each direction got a little variance."""
        width = len(self.covariance)
        least = _FLOOR * self.covariance.trace() / width + torch.finfo(torch.float64).tiny
        return torch.linalg.cholesky(self.covariance + least * torch.eye(width, dtype=torch.float64))


def warm_vectors(frozen: Frozen) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(training rows [n] int64, trained vectors [n, D] float32) of all items with training rows. Collective."""
    counts = frozen.encoder.maps[ITEM].counts
    warm = np.flatnonzero(counts)
    for begin in range(0, len(warm), _CHUNK):
        chunk = warm[begin : begin + _CHUNK]
        yield counts[chunk], frozen.vectors(chunk + 1)


def unknown_prior(frozen: Frozen) -> Prior:
    """Every item starts at the trained unknown row; it may differ as warm items differ, each by its training rows."""
    mean, second = warm_moments(frozen)
    start = frozen.unknown().repeat(frozen.count, 1)
    return Prior(start, second - torch.outer(mean, mean))


def warm_moments(frozen: Frozen) -> tuple[Tensor, Tensor]:
    """Mean [D] and second moments [D, D], float64 on the CPU, of the warm items' vectors, each by its training rows."""
    total, first, second = 0.0, torch.zeros(()), torch.zeros(())
    for count, vectors in warm_vectors(frozen):
        vectors = vectors.double().cpu()
        weighted = torch.from_numpy(count).double()[:, None] * vectors
        total, first, second = total + float(count.sum()), first + weighted.sum(0), second + vectors.T @ weighted
    return first / total, second / total
