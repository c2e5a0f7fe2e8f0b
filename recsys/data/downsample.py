"""Down-sampling of negatives: which share of a row group's rows of label 0 an epoch takes."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from recsys.data import parquet
from recsys.data.pieces import Draw, Piece
from recsys.errors import InputError
from recsys.storage import Location

_STREAM = 1
"""Sets the draws of negatives apart from others of the same epoch."""


class Negatives:
    """Draws the negatives of each epoch: floor(share * N) of N, spread evenly over the row groups in random order.

    The number of rows is so the same in each epoch, and known before any is read. Each negative's chance to be in is
    the share; what a row group gives differs by at most one row from its own share.

    Reads the label column of every row group once.

    Raises:
        InputError: a file that cannot be read, named with its row group.
    """

    def __init__(self, groups: list[Piece], share: float, seed: int) -> None:
        self._groups, self._share, self._seed = groups, share, seed
        self._count = np.array([_zeros(piece.path, piece.group) for piece in groups], dtype=np.int64)

    def epoch(self, epoch: int) -> list[Piece]:
        """The row groups, in their order, with what is in of each."""
        seed = (self._seed, epoch, _STREAM)
        turn = np.random.default_rng(seed).permutation(len(self._groups))
        through = np.floor(self._share * np.cumsum(self._count[turn])).astype(np.int64)
        kept = np.empty_like(self._count)
        kept[turn] = np.diff(through, prepend=0)
        return [
            replace(piece, stop=piece.rows - int(zeros - taken), draw=Draw(int(taken), (*seed, piece.first_row)))
            for piece, zeros, taken in zip(self._groups, self._count, kept, strict=True)
        ]


def _zeros(path: Location, group: int) -> int:
    try:
        with parquet.opened(path) as file:
            label = file.read_row_group(group, columns=["label"])["label"]
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: row group {group}: cannot be read: {error}") from None
    return int((label.to_numpy() == 0).sum())
