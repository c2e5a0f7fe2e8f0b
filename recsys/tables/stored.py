"""Rows of a checkpoint's tensors, read straight from its files: no model, no process group, no shard in memory.

`torch.distributed.checkpoint` keeps a shard as a `torch.save` archive at an offset of one of its files, and the archive
keeps the values as one uncompressed record. Its own reader unpacks a shard whole to give any part of it; a table
trained on one rank is one shard. Here only the bytes of the wanted rows are read, and no pickle is opened.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.tables import manifest
from recsys.tables.archive import record
from recsys.tables.places import DTYPES, FORMAT, Chunk, Place, Places, places

MODEL, ROWS, DENSE = "model.", "rows.", "dense."
"""What the names of a checkpoint's tensors begin with: the model's, the tables' optimizer state, the dense part's."""
_PIECE = 1 << 22
"""Bytes read at a time."""


@dataclass(frozen=True)
class Shard:
    """Cells [row, row + rows) x [column, column + columns) of the tensor, row by row from byte `start` of `path`.

    `crc` is the CRC-32 of those bytes, as the archive around them tells it.
    """

    path: Path
    start: int
    row: int
    column: int
    rows: int
    columns: int
    crc: int

    def cells(self, dtype: torch.dtype, low: int, high: int) -> np.ndarray:
        """[high - low, columns] rows of the shard, mapped."""
        start = self.start + low * self.columns * dtype.itemsize
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        if not (high - low) * self.columns:
            return np.empty((high - low, self.columns), kind)
        try:
            return np.memmap(self.path, kind, "r", start, (high - low, self.columns))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be read: {error}") from None

    def check(self, size: int) -> None:
        """Compare all of the shard's bytes with the checksum that torch wrote beside them."""
        crc, left = 0, self.rows * self.columns * size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise InputError(f"{self.path}: cut short")
                crc, left = zlib.crc32(piece, crc), left - len(piece)
        if crc != self.crc:
            raise InputError(f"{self.path}: damaged: a shard's checksum is not that of its bytes")


class StoredTensor:
    """One tensor in the checkpoint `source`, whatever sharding it was saved under, as a matrix [N, D].

    A vector is a matrix of one column, a number one of one row; of more axes all but the first are laid into D.

    Attributes:
        size: the tensor's own.
        rows, dim: N and D.

    Raises:
        InputError: not a whole checkpoint, no such tensor, or files that are not as `torch.distributed.checkpoint`
            writes them.
    """

    def __init__(self, source: Path, name: str, part: str = MODEL, found: Places | None = None) -> None:
        self.source, self.name = source, name
        found = tensors(source) if found is None else found
        if part + name not in found:
            raise InputError(f"{source}: tensor {name}: no such table in the checkpoint")
        self._place: Place = found[part + name]
        self.size = self._place.size
        self.rows, self.dim = _matrix(self.size)
        self.dtype = DTYPES[self._place.dtype]

    @cached_property
    def shards(self) -> list[Shard]:
        """Where its cells lie: one shard a chunk."""
        return [self._shard(chunk) for chunk in self._place.chunks]

    @cached_property
    def columns(self) -> list[range]:
        """The column ranges that the tensor is cut into, from the left."""
        return sorted({range(c.column, c.column + c.columns) for c in self.shards}, key=lambda cut: cut.start)

    def _shard(self, chunk: Chunk) -> Shard:
        path = self.source / chunk.file
        expected = math.prod(chunk.size) * self.dtype.itemsize
        try:
            with path.open("rb") as file:
                start, length, crc = record(file, chunk.offset, chunk.length)
        except (
            OSError,
            ValueError,
            OverflowError,
            EOFError,
            NotImplementedError,
            struct.error,
            zipfile.BadZipFile,
        ) as e:
            raise InputError(f"{path}: tensor {self.name}: cannot be read: {e}") from None
        if length != expected:
            raise InputError(f"{path}: tensor {self.name}: expected {expected} bytes, found {length}")
        if len(self.size) > 2 and chunk.size != self.size:
            raise InputError(f"{path}: tensor {self.name}: {len(self.size)} axes in pieces: expected one piece")
        row, column = ([*chunk.corner, 0, 0][:2]) if len(self.size) <= 2 else (0, 0)
        return Shard(path, start, row, column, *_matrix(chunk.size), crc)

    def check(self, rows: range) -> None:
        """Verify the shards that hold any of `rows`, all of each.

        Raises:
            InputError: a shard whose bytes are not those that were saved, with its file.
        """
        for shard in self.shards:
            if len(rows) and shard.row < rows.stop and rows.start < shard.row + shard.rows:
                shard.check(self.dtype.itemsize)

    def read(self, rows: range, columns: range | None = None) -> Tensor:
        """[n, D] consecutive rows in the stored dtype, or the columns named of them.

        Raises:
            InputError: a file is cut short.
        """
        columns = range(self.dim) if columns is None else columns
        found = torch.empty(len(rows), len(columns), dtype=self.dtype)
        for shard in self.shards:
            down = _shared(rows, range(shard.row, shard.row + shard.rows))
            across = _shared(columns, range(shard.column, shard.column + shard.columns))
            if down and across:
                cells = shard.cells(self.dtype, down.start - shard.row, down.stop - shard.row)
                cells = cells[:, across.start - shard.column : across.stop - shard.column]
                found[_within(down, rows), _within(across, columns)] = torch.from_numpy(np.array(cells))
        return found

    def blocks(self, rows: range, columns: range | None = None) -> Iterator[tuple[range, Tensor]]:
        """The rows in order, a few megabytes at a time: which, and as `read` gives them."""
        step = max(_PIECE // max(self.dim * self.dtype.itemsize, 1), 1)
        for start in range(rows.start, rows.stop, step):
            some = range(start, min(start + step, rows.stop))
            yield some, self.read(some, columns)

    def whole(self) -> Tensor:
        """All of the tensor in its own size, checked against its checksums.

        Raises:
            InputError: damaged, or a file is cut short.
        """
        self.check(range(self.rows))
        return self.read(range(self.rows)).reshape(self.size)

    def take(self, rows: Tensor) -> Tensor:
        """[n, D] the rows named ([n] int64), in the stored dtype; only their pages of the files are touched.

        Raises:
            InputError: a file is cut short.
        """
        found = torch.empty(len(rows), self.dim, dtype=self.dtype)
        for shard in self.shards:
            here = (rows >= shard.row) & (rows < shard.row + shard.rows)
            cells = shard.cells(self.dtype, 0, shard.rows)
            across = slice(shard.column, shard.column + shard.columns)
            found[here, across] = torch.from_numpy(cells[(rows[here] - shard.row).numpy()])
        return found


def tensors(source: Path) -> Places:
    """The tensors of a checkpoint, by full name.

    Raises:
        InputError: its manifest is not that of a whole checkpoint.
    """
    return places(source, manifest.read(source, FORMAT))


def _matrix(size: tuple[int, ...]) -> tuple[int, int]:
    return (size[0], math.prod(size[1:])) if size else (1, 1)


def _shared(a: range, b: range) -> range:
    return range(max(a.start, b.start), min(a.stop, b.stop))


def _within(part: range, whole: range) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
