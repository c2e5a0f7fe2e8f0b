"""From what an item's first users have in common to its ID vector: ridge fitted on warm items, for each number of rows.

Of a warm item seeded draws of n of its training rows stand for the first feedback of a new one; the ridge predicts the
vector that all its rows have trained. What n rows tell differs with n, so there is one for each of 1, 2, 4, ... rows;
an item with m rows is read by that of the largest n up to m. No gradient step is taken, and an item is read again when
its feedback grows.

Legend: K items, D ID width, S summary width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import Prior, warm_moments
from recsys.config_prompt import Summary
from recsys.data.encode import ITEM
from recsys.data.splits import keys_at
from recsys.floor.ridge import FOLDS, Ridge, fit, moments
from recsys.prompt import feedback, values
from recsys.prompt.feedback import Codes, Feedback
from recsys.prompt.summary import Centre, Grouping, Sums, sums
from recsys.prompt.values import Doubles, Values

_CHUNK = 65536


@dataclass(frozen=True)
class Map:
    """Summary to ID vector, for each number of rows."""

    mean: Tensor
    """[D] float32 of the warm items' ID vectors, each by its training rows."""
    centre: Centre
    ridges: dict[int, Ridge]
    """By n, ascending."""

    def __call__(self, of: Sums) -> tuple[Doubles, Codes]:
        """ID vectors [G, D] of groups of rows, and the n [G] that each was read by; 0 (and no vector) without rows."""
        sizes = np.array(list(self.ridges))
        place = np.searchsorted(sizes, of.rows, side="right") - 1
        x = of.summaries(self.centre)
        found = np.zeros((len(x), len(self.ridges[sizes[0]].mean_y)))
        for at, ridge in enumerate(self.ridges.values()):
            found[place == at] = ridge(x[place == at])
        return found, np.where(place >= 0, sizes[place], 0)


def learn(frozen: Frozen, options: Summary, batch_size: int) -> tuple[Map, Values]:
    """The map for items of up to `options.rows` rows, and what users' rows are worth. Collective.

    Raises:
        InputError: a file that cannot be read, a value that is not finite, or too few warm items.
    """
    encoder = frozen.encoder
    known = values.fit(encoder)
    sizes = [1 << k for k in range(options.rows.bit_length())]
    items, drawn = feedback.of_warm(encoder, known, options, options.draws * sizes[-1])
    counts = encoder.maps[ITEM].counts[items - 1]
    groupings = [_draws(drawn, counts, size, options.draws) for size in sizes]
    mean = warm_moments(frozen)[0].float()
    found = sums(frozen, drawn, groupings, mean, options.smoothing, batch_size)
    centre = found[0].centre()
    parts = (frozen.vectors(items[at : at + _CHUNK]) for at in range(0, len(items), _CHUNK))
    vectors = np.concatenate([part.double().cpu().numpy() for part in parts])
    fold = (keys_at(items, options.seed) % np.uint64(FOLDS)).astype(np.int64)
    ridges = {
        size: _ridge(each.summaries(centre), each.rows == size, vectors, counts, fold, options)
        for size, each in zip(sizes, found, strict=True)
        if np.any(each.rows == size)
    }
    return Map(mean, centre, ridges), known


def _draws(drawn: Feedback, counts: Codes, size: int, draws: int) -> Grouping:
    """Draw d of item k, `size` of its rows, is group k * draws + d, of items with at least twice as many rows: from
    fewer, the vector would have been learned from little else."""
    draw = drawn.rank // size
    kept = (draw < draws) & (counts[drawn.item] >= 2 * size)
    return Grouping(np.where(kept, drawn.item * draws + draw, -1), len(counts) * draws)


def _ridge(x: Doubles, whole: Codes, y: Doubles, counts: Codes, fold: Codes, options: Summary) -> Ridge:
    """x: [I * draws, S], of which the `whole` count; y: [I, D]; counts, fold: [I]. Each draw has its item's weight."""
    folds = []
    for k in range(FOLDS):
        at = np.flatnonzero(whole & (fold[np.arange(len(x)) // options.draws] == k))
        item = at // options.draws
        folds.append(moments(x[at], y[item], counts[item].astype(float)))
    return fit(folds, x.shape[1], options.ridge)


def prompted(frozen: Frozen, learned: Map, given: Feedback, options: Summary, batch_size: int) -> tuple[Prior, Codes]:
    """What the K items' feedback says of their vectors, and the number of rows [K] that each was read by. Collective.

    An item without feedback starts at the trained unknown row. The covariance is that of the errors on left-out items,
    for the largest such number.

    Raises:
        InputError: a file that cannot be read.
    """
    whole = [Grouping(given.item, frozen.count)]
    (found,) = sums(frozen, given, whole, learned.mean, options.smoothing, batch_size)
    vectors, size = learned(found)
    start = frozen.unknown().repeat(frozen.count, 1)
    told = torch.from_numpy(size > 0).to(start.device)
    start[told] = torch.from_numpy(vectors[size > 0]).to(start)
    largest = learned.ridges[int(size.max(initial=0)) or min(learned.ridges)]
    return Prior(start, torch.from_numpy(largest.residual)), size
