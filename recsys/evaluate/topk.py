"""Full ranking: scores of every candidate for a batch of users, and where each user's positives rank among them.

Notation: B users of a batch, I items, p positives of the batch.

A batch's scores take 16 MiB (`SCORES`) up to 65,536 items; beyond, 256 bytes an item (`TILE` users): 256 MB for a
million. Resolving ties takes as much again at most.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from recsys.data.jagged import Jagged
from recsys.evaluate.ties import Ties

SCORES = 2**22
"""Scores in a batch, 16 MiB: as many users as that allows, in multiples of TILE, but at least TILE."""
TILE = 64
"""Users of a matrix product come in multiples of this."""
TIED = 32
"""Resolving ties takes more than ten times what a user's scores do: of a batch, one user in this many at a time."""


def batches(users: int, items: int) -> Iterator[slice]:
    """Consecutive users, `SCORES` scores at a time, but not fewer than `TILE` users."""
    size = max(SCORES // max(items, 1) // TILE, 1) * TILE
    return (slice(start, min(start + size, users)) for start in range(0, users, size))


def score(users: Tensor, items: Tensor, masked: Jagged) -> Tensor:
    """[B, I] dot products of users [B, D] and items [I, D], float32; minus infinity for each user's `masked` items.

    A product of few rows takes another path through the library and rounds differently, so the batch is filled up with
    zeros to a multiple of `TILE` rows. With one thread on a CPU a user's scores then came out the same in any batch;
    the library promises it for none.
    """
    return mask((pad(users, (0, 0, 0, -len(users) % TILE)) @ items.T)[: len(users)], masked)


def mask(scores: Tensor, masked: Jagged) -> Tensor:
    """The scores [B, I] themselves, with minus infinity for each user's `masked` items."""
    row = np.repeat(np.arange(len(scores)), masked.lengths)
    scores[torch.from_numpy(row), torch.from_numpy(masked.values).long()] = -torch.inf
    return scores


def top(scores: Tensor, candidates: range, ties: Ties, k: int) -> Tensor:
    """[B, min(k, C)] int64: codes of the C candidates with the highest scores, the best first.

    scores: [B, I]. ties: of the B users. `torch.topk` breaks ties as it likes, so where two of a user's best k + 1
    scores are equal, all are ranked again by (score, place among equals) as one integer, which has no ties.
    """
    scores = scores[:, candidates.start : candidates.stop]
    best = torch.topk(scores, min(k + 1, scores.shape[1]))
    tied = (best.values[:, 1:] == best.values[:, :-1]).any(dim=1).nonzero()[:, 0]
    found = best.indices[:, :k]
    codes = np.arange(candidates.start, candidates.stop)
    for some in tied.split(max(len(scores) // TIED, 1)) if len(tied) else ():
        place = torch.from_numpy(ties.place(some.numpy()[:, None], codes))
        found[some] = torch.topk(_without_ties(scores[some], place), found.shape[1]).indices
    return found + candidates.start


def ranks(
    scores: Tensor,
    candidates: range,
    ties: Ties,
    row: NDArray[np.int32],
    item: NDArray[np.int32],
    k: int,
) -> NDArray[np.int32]:
    """[p] rank, from 0, of each positive among the user's candidates; k for all that are not among the best k.

    scores: [B, I]. candidates: their codes. ties: of the B users. row, item: [p] the positives' users, as rows of
    `scores`, and their items, sorted by both.
    """
    width = scores.shape[1]
    best = top(scores, candidates, ties, k).numpy()
    wanted = row.astype(np.int64) * width + item
    shown = (np.arange(len(best))[:, None] * width + best).ravel()
    place = np.searchsorted(wanted, shown)
    hit = wanted[np.minimum(place, len(wanted) - 1)] == shown if len(wanted) else np.zeros(len(shown), bool)
    found = np.full(len(wanted), k, np.int32)
    found[place[hit]] = np.flatnonzero(hit) % best.shape[1]
    return found


def _without_ties(scores: Tensor, place: Tensor) -> Tensor:
    """[b, C] int64, ascending by (score, place from the last), of scores without NaN and places [b, C]."""
    # The bits of a float32 ascend with its magnitude, so those below its sign, negated, order negative scores; -0 is 0.
    bits = scores.view(torch.int32).long()
    ascending = torch.where(bits < 0, -(bits + 2**31), bits)
    return ascending * 2**32 - place
