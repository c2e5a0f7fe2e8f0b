"""Lists of negative feedback filled up with users who are known by then and have given the item no positive."""

import numpy as np
import numpy.typing as npt

from recsys.data.feedback import Feedback
from recsys.data.log import Codes, Seconds
from recsys.data.places import compacted, first_time
from recsys.data.splits import keys_at

ROUNDS = 16
"""A list of k takes the first k of at most ROUNDS * k drawn users that may be in it."""


def fill(
    negative: Codes, pinnacle: Codes, feedback: Feedback, item: Codes, as_of: Seconds, user: Codes, seed: int
) -> Codes:
    """[B, k] the lists `negative` with their free places filled, as far as there are users to be found.

    Place by place a hash of (item, draw) names one of the users whose first training row is of a second smaller than
    `as_of`. It is passed over if it is the scored user, in `pinnacle` [B, k], in the list already, or has given the
    item positive feedback by then.
    """
    filled, k = negative.copy(), negative.shape[1]
    known = np.searchsorted(feedback.arrival, as_of)
    done = 0
    # Most lists are full after the first k draws; the few that are not look at more and more at once.
    while done < ROUNDS and len(short := np.flatnonzero((filled[:, -1] < 0) & (known > 0))):
        draws, done = np.arange(done * k, max(2 * done, 1) * k), max(2 * done, 1)
        drawn = _drawn(feedback, item[short], known[short], draws, ROUNDS * k, seed)
        barred = feedback.likes(drawn, item[short, None], as_of[short, None]) | (drawn == user[short, None])
        barred |= (drawn[:, :, None] == pinnacle[short, None, :]).any(axis=2)
        entries = np.concatenate([filled[short], np.where(barred, -1, drawn)], axis=1)
        filled[short] = compacted(entries, first_time(entries), k)
    return filled


def _drawn(
    feedback: Feedback, item: Codes, known: npt.NDArray[np.int64], draws: npt.NDArray[np.int64], of: int, seed: int
) -> Codes:
    """[B, len(draws)] users; item -1 draws as one more item."""
    keys = keys_at((item[:, None].astype(np.int64) + 1) * of + draws, seed, salt=1)
    return feedback.arrived[(keys % known[:, None].astype(np.uint64)).astype(np.int64)]
