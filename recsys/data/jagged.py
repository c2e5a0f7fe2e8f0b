"""Lists of lists as (values, offsets), the layout of Arrow lists and of `KeyedJaggedTensor`."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Jagged:
    """n lists end to end: list k is `values[offsets[k] : offsets[k + 1]]`; `offsets` is [n + 1] int64."""

    values: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """[n] int64."""
        return np.diff(self.offsets)

    def index(self, picked: np.ndarray) -> "Jagged":
        """Where the values of the lists `picked` ([k] int64) lie: a Jagged of positions into `values`."""
        starts = self.offsets[picked]
        lengths = self.offsets[picked + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.repeat(starts - offsets[:-1], lengths)
        positions += np.arange(offsets[-1])
        return Jagged(positions, offsets)

    def take(self, picked: np.ndarray) -> "Jagged":
        """The lists `picked`, in that order."""
        where = self.index(picked)
        return Jagged(self.values[where.values], where.offsets)

    def slice(self, start: int, stop: int) -> "Jagged":
        """Lists start to stop, without copying their values."""
        offsets = self.offsets[start : stop + 1]
        return Jagged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    @staticmethod
    def concat(parts: "list[Jagged]") -> "Jagged":
        """All lists of all parts, in order."""
        lengths = np.concatenate([part.lengths for part in parts])
        return Jagged(
            np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        )
