"""Which rows of a split go where: row groups and parts of them, dealt to ranks, in blocks, minus what others have read.

Nothing here reads a row. A piece names rows by their place in their row group, so a plan is as small as the number of
row groups, but for the blocks that a change of ranks has broken into.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data import parquet
from recsys.errors import InputError
from recsys.storage import Location

Places = NDArray[np.int64]
EVAL_ROWS = 65536
"""Rows of a block that nothing shuffles."""


@dataclass(frozen=True, eq=False)
class Draw:
    """Of a row group's rows of label 0 only `negatives` are in an epoch, drawn by `seed`; all others are."""

    negatives: int
    seed: tuple[int, ...]

    def rows(self, label: np.ndarray) -> Places:
        """Places, in order, of the rows that are in, of a row group with the labels [n]."""
        drawn = np.random.default_rng(self.seed).choice(np.flatnonzero(label == 0), self.negatives, replace=False)
        return np.sort(np.concatenate([np.flatnonzero(label != 0), drawn]))


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows start to stop of one row group; `first_row` is the row id of the group's first row.

    Attributes:
        stamp: of the file as it was when the split was opened (`recsys.data.parquet.stamp`).
        draw: start and stop count only the rows that it leaves in; None: all are.
        picked: [k] the only rows of the piece, as places between start and stop, ascending; None: all of them.
    """

    path: Location
    group: int
    start: int
    stop: int
    first_row: int
    stamp: parquet.Stamp
    draw: Draw | None = None
    picked: Places | None = None

    @property
    def rows(self) -> int:
        return self.stop - self.start if self.picked is None else len(self.picked)

    def part(self, start: int, stop: int) -> "Piece":
        """Its rows start to stop."""
        if self.picked is None:
            return replace(self, start=self.start + start, stop=self.start + stop)
        return replace(self, picked=self.picked[start:stop])

    def pick(self, rows: Places) -> "Piece":
        """Its rows `rows` ([k], ascending)."""
        return replace(self, picked=self.start + rows if self.picked is None else self.picked[rows])

    def places(self, label: np.ndarray) -> Places:
        """[rows] the places of its rows in the row group, whose labels are `label`."""
        picked = np.arange(self.start, self.stop) if self.picked is None else self.picked
        return self.draw.rows(label)[picked] if self.draw else picked


@dataclass(frozen=True)
class Dealt:
    """How rows are dealt: to so many ranks, in batches of so many, from blocks of so many (0: in the files' order)."""

    world_size: int
    batch_size: int
    shuffle: int


@dataclass(frozen=True)
class Leg:
    """Steps that ranks have made of an epoch before their number, or what they read at once, was changed."""

    dealt: Dealt
    steps: int


def row_groups(files: Sequence[Location]) -> list[Piece]:
    """Every row group of a split, whole, from Parquet footers alone.

    Raises:
        InputError: a file is truncated or not Parquet.
    """
    pieces, first_row = [], 0
    for path in files:
        try:
            stamped, metadata = parquet.stamp(path), parquet.metadata_of(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: truncated or not Parquet: {error}") from None
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            pieces.append(Piece(path, group, 0, rows, first_row, stamped))
            first_row += rows
    return pieces


def deal(pieces: list[Piece], rank: int, world_size: int) -> list[Piece]:
    """Rank's contiguous share of the rows, equal to within one row; a group on a border is read by both sides."""
    total = sum(piece.rows for piece in pieces)
    low, high = rank * total // world_size, (rank + 1) * total // world_size
    dealt = []
    for piece, end in zip(pieces, accumulate(piece.rows for piece in pieces), strict=True):
        begin = end - piece.rows
        start, stop = max(low, begin), min(high, end)
        if start < stop:
            dealt.append(piece.part(start - begin, stop - begin))
    return dealt


def blocks(pieces: list[Piece], dealt: Dealt, rank: int) -> list[list[Piece]]:
    """A rank's share in the blocks that it reads and shuffles at once."""
    found: list[list[Piece]] = [[]]
    held = 0
    for piece in deal(pieces, rank, dealt.world_size):
        if held >= (dealt.shuffle or EVAL_ROWS):
            found.append([])
            held = 0
        found[-1].append(piece)
        held += piece.rows
    return [block for block in found if block]


def order(rows: int, dealt: Dealt, seed: Sequence[int], block: int) -> Places:
    """[rows] the order in which a rank takes the rows of its block, the so many-th of the epoch that `seed` names."""
    # A stream of its own for each block: skipping one does not change the order of the others.
    return np.random.default_rng([*seed, block]).permutation(rows) if dealt.shuffle else np.arange(rows)


def left(pieces: list[Piece], leg: Leg, seed: Sequence[int]) -> list[Piece]:
    """What all ranks of a leg together have not read of the pieces, which other ranks can then be dealt."""
    found = []
    for rank in range(leg.dealt.world_size):
        skip = leg.steps * leg.dealt.batch_size
        for k, block in enumerate(blocks(pieces, leg.dealt, rank)):
            rows = sum(piece.rows for piece in block)
            if not skip:
                found += block
            elif skip < rows:
                found += _picked(block, np.sort(order(rows, leg.dealt, seed, k)[skip:]))
            skip = max(0, skip - rows)
    return found


def _picked(block: list[Piece], rows: Places) -> list[Piece]:
    """The rows `rows` (ascending) of a block."""
    ends = np.cumsum([piece.rows for piece in block])
    inside = np.split(rows, np.searchsorted(rows, ends))
    starts = ends - [piece.rows for piece in block]
    return [piece.pick(mine - start) for piece, mine, start in zip(block, inside, starts, strict=False) if len(mine)]
