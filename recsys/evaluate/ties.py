"""The order in which equal scores rank: random, each user's own, and always the same.

A system that scores all cold items alike so gets what chance gives. One order for all users would not do: a few popular
items hold most positives, and whether they come early in it is one throw of dice (on MovieLens-1M's cold items it gave
twice or half of chance).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.splits import keys_at, seeded_keys

ORDER, SHIFT = 0, 1
"""Salts of the hash."""


@dataclass(frozen=True)
class Ties:
    """User u ranks equal scores by `order[(item + shift[u]) % I]`: no two items share a place."""

    order: NDArray[np.int32]
    """[I] a random permutation."""
    shift: NDArray[np.int64]
    """[U] from 0 to I - 1."""

    @staticmethod
    def of(users: pa.Array, items: int, seed: int) -> "Ties":
        """Drawn by the seed and the raw ids of the users."""
        order = np.argsort(seeded_keys(items, seed, ORDER)).astype(np.int32)
        return Ties(order, (keys_at(id_keys(users), seed, SHIFT) % np.uint64(items)).astype(np.int64))

    def slice(self, start: int, stop: int) -> "Ties":
        """Of users start to stop."""
        return Ties(self.order, self.shift[start:stop])

    def place(self, user: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.int32]:
        """Places of item codes among equals, for users by position; shapes are broadcast."""
        return self.order[(item + self.shift[user]) % len(self.order)]


def id_keys(ids: pa.Array) -> NDArray[np.int64]:
    """[n] a hash of each raw id that is the same on every machine."""
    keys = pd.util.hash_array(ids.to_numpy(zero_copy_only=False), categorize=False)
    return keys.view(np.int64)
