"""Which items of a user's history the judge is shown."""

import numpy as np
from numpy.typing import NDArray

from recsys.data.jagged import Jagged
from recsys.data.splits import keys_at


def draw(events: Jagged, length: int, seed: int) -> NDArray[np.int64]:
    """Of each user's events at most `length`, at random (LLM-InS, appendix A.1); where there are fewer, all.

    events: for each user the rows [M] int64 of the log that are their history. A row is drawn by the seed and the rows
        of its own user alone, whoever else is asked about.
    Returns: positions in `events.values`, in their order.
    """
    owner = np.repeat(np.arange(len(events.lengths)), events.lengths)
    order = np.lexsort((keys_at(events.values, seed), owner))
    place = np.arange(len(order)) - np.repeat(events.offsets[:-1], events.lengths)
    return np.sort(order[place < length])
