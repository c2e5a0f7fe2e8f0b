"""How many impressions a system needs to reach a level, read off its warm-up curve."""

import numpy as np
from numpy.typing import NDArray


def impressions(seen: NDArray[np.int64], value: NDArray[np.float64], level: float) -> float:
    """The fewest impressions after which the curve is at `level`; infinite where it never is.

    The curve has `value` [P] after `seen` [P] impressions, ascending, and is linear in log(1 + impressions) between.

        >>> round(impressions(np.array([0, 3, 15]), np.array([0.6, 0.7, 0.8]), 0.75), 6)
        7.0
    """
    above = np.flatnonzero(value >= level)
    if not len(above):
        return float("inf")
    k = int(above[0])
    if k == 0:
        return float(seen[0])
    low, high = np.log1p(seen[k - 1 : k + 1])
    share = (level - value[k - 1]) / (value[k] - value[k - 1])
    return float(np.expm1(low + share * (high - low)))


def told(count: float) -> str:
    """For a table."""
    return f"{count:.0f}" if np.isfinite(count) else "more than these"
