"""AUC in a stream, over all ranks, in bounded memory.

The bits of a float32 score in [0, 1], read as an integer, have its order. So a row is one integer while there are few,
which is exact; beyond `EXACT` rows only counts are kept, of the positives and negatives that share their score's first
bits (13 of the mantissa). Of such a bin a positive is taken to outrank half of the negatives, as with ties, which is
wrong by a known amount at most:

    |AUC - found| <= sum_b P_b N_b / (2 P N)
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

EXACT = 1 << 20
"""Rows, over all ranks, that are held themselves: 4 bytes each."""
LEFT_OUT = 10
"""Last bits of a score that a bin does not tell."""
BINS = (0x3F800000 >> LEFT_OUT) + 1
"""Up to the bits of 1.0: a million, of 16 bytes each."""
_PART = 1 << 16
"""Bins that are added up at a time."""


class Auc(NamedTuple):
    """The AUC, ties counted half, NaN where a class is missing; and how far it can be from the exact one."""

    value: float
    error: float


class StreamedAuc:
    """AUC of rows that come in batches, each to one rank.

    exact: more rows than this are counted by bins.
    """

    def __init__(self, device: torch.device | None = None, exact: int = EXACT) -> None:
        self.exact = exact
        self._rows = [torch.zeros(0, dtype=torch.int32, device=device)]
        self._held = 0
        self._bins: Tensor | None = None

    def update(self, score: Tensor, label: Tensor) -> None:
        """Add rows: scores [n] float32 in [0, 1], a NaN counting as 0, and labels [n], 0 or 1."""
        bits = score.float().nan_to_num(0.0).contiguous().view(torch.int32)
        self._rows.append((bits << 1) | label.to(torch.int32))
        self._held += len(bits)
        if self._held > self.exact:
            self._count()

    def compute(self) -> Auc:
        """The AUC of the rows of all ranks. Collective where there is a process group."""
        held = self._held + (self.exact + 1 if self._bins is not None else 0)
        if int(_summed(self._rows[0].new_tensor([held], dtype=torch.int64))) > self.exact:
            return _area(_summed(part.clone()) for part in self._count().view(-1, 2).split(_PART))
        rows = _gathered(torch.cat(self._rows))
        scores, place = torch.unique(rows >> 1, return_inverse=True)
        counts = torch.bincount(2 * place + (rows & 1), minlength=2 * len(scores))
        return _area([counts.view(-1, 2)])._replace(error=0.0)

    def _count(self) -> Tensor:
        """Move the rows that are held into the bins; returns [2 BINS] negatives and positives of each."""
        rows, self._rows, self._held = torch.cat(self._rows), self._rows[:1], 0
        if self._bins is None:
            self._bins = rows.new_zeros(2 * BINS, dtype=torch.int64)
        place = (rows >> (LEFT_OUT + 1) << 1) | (rows & 1)
        return self._bins.index_add_(0, place, torch.ones_like(place, dtype=torch.int64))


def _area(parts: Iterable[Tensor]) -> Auc:
    """AUC of negatives and positives [b, 2] by ascending score, those of one line tied; in parts, in order."""
    negatives = positives = area = tied = 0.0
    for counts in parts:
        negative, positive = counts.double().unbind(1)
        below = negatives + negative.cumsum(0) - negative
        area += float(positive @ (below + negative / 2))
        tied += float(positive @ negative) / 2
        negatives, positives = negatives + float(negative.sum()), positives + float(positive.sum())
    if not negatives * positives:
        return Auc(float("nan"), 0.0)
    return Auc(area / (negatives * positives), tied / (negatives * positives))


def _summed(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def _gathered(values: Tensor) -> Tensor:
    """The ranks' [n] values, end to end; n may differ."""
    if not dist.is_initialized():
        return values
    sizes = [values.new_zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, values.new_tensor([len(values)], dtype=torch.int64))
    longest = int(max(sizes))
    parts = [values.new_zeros(longest) for _ in sizes]
    dist.all_gather(parts, torch.nn.functional.pad(values, (0, longest - len(values))))
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])
