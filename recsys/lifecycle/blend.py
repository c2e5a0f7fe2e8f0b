"""How much of each source is in an item's row, by its rows of feedback. Legend: K items, S stages."""

import numpy as np
from numpy.typing import NDArray

from recsys.config_lifecycle import Stage


def weights(stages: list[Stage], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, S] shares that sum to 1; rows: [K] of feedback.

    At a stage's own number of rows its source is alone; between two, linear in log(1 + rows); beyond the last, its own.

        >>> weights([Stage(rows=0, source="start"), Stage(rows=3, source="read")], np.array([0, 1, 3, 9])).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
    """
    at = np.log1p([stage.rows for stage in stages])
    place = np.interp(np.log1p(rows), at, np.arange(len(stages)))
    return np.clip(1 - np.abs(place[:, None] - np.arange(len(stages))), 0, 1)
