"""Lists of unequal lengths as rows of places, the taken ones first."""

import numpy as np
import numpy.typing as npt

from recsys.data.log import Mask

NOBODY = -1
"""In a place that is not taken; never a code or a position."""


def first_time(entries: npt.NDArray[np.integer]) -> Mask:
    """[B, C] whether an entry of 0 or more is in no column before; holds B * C * C bytes."""
    before = np.tri(entries.shape[1], k=-1, dtype=bool)
    return (entries >= 0) & ~((entries[:, :, None] == entries[:, None, :]) & before).any(axis=2)


def compacted(entries: npt.NDArray, kept: Mask, count: int) -> npt.NDArray:
    """[B, count] of [B, C >= count] entries the first that are kept, in their order; NOBODY where there are no more."""
    order = np.argsort(~kept, axis=1, kind="stable")[:, :count]
    taken = np.take_along_axis(kept, order, axis=1)
    return np.where(taken, np.take_along_axis(entries, order, axis=1), np.asarray(NOBODY, entries.dtype))
