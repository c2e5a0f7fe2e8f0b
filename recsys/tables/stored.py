"""Rows of a checkpoint's tensors, read straight from its files: no model, no process group, no shard in memory.

`torch.distributed.checkpoint` keeps a shard as a `torch.save` archive at an offset of one of its files, and the archive
keeps the values as one uncompressed record. Its own reader unpacks a shard whole to give any part of it; a table
trained on one rank is one shard. Here only the bytes of the wanted rows are read, and no pickle of a shard is opened.
"""

import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata

from recsys.errors import InputError

_PIECE = 1 << 22
"""Bytes read at a time to check a shard."""


@dataclass(frozen=True)
class _Shard:
    """Cells [row, row + rows) x [column, column + columns) of the tensor, row by row from byte `start` of `path`."""

    path: Path
    start: int
    row: int
    column: int
    rows: int
    columns: int
    crc: int

    @property
    def across(self) -> slice:
        return slice(self.column, self.column + self.columns)

    def cells(self, dtype: torch.dtype, low: int, high: int) -> np.ndarray:
        """[high - low, columns] rows of the shard, mapped."""
        start = self.start + low * self.columns * dtype.itemsize
        kind = torch.empty(0, dtype=dtype).numpy().dtype
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
    """One tensor [N, D] of the model in the checkpoint `source`, whatever sharding it was saved under.

    Raises:
        InputError: no such tensor, or files that are not as `torch.distributed.checkpoint` writes them.
    """

    def __init__(self, source: Path, name: str) -> None:
        self.source, self.name = source, name
        metadata = dcp.FileSystemReader(source).read_metadata()
        entry = metadata.state_dict_metadata.get(f"model.{name}")
        if not isinstance(entry, TensorStorageMetadata) or len(entry.size) != 2:
            raise InputError(f"{source}: tensor {name}: no such table in the checkpoint")
        self.rows, self.dim = entry.size
        self.dtype = entry.properties.dtype
        self._places = [
            (metadata.storage_data[MetadataIndex(f"model.{name}", chunk.offsets, k)], chunk)
            for k, chunk in enumerate(entry.chunks)
        ]

    @cached_property
    def _shards(self) -> list[_Shard]:
        size = self.dtype.itemsize
        shards = []
        for place, chunk in self._places:
            path = self.source / place.relative_path
            cells = math.prod(chunk.sizes)
            try:
                with path.open("rb") as file:
                    start, length, crc = _record(file, place.offset, place.length)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise InputError(f"{path}: tensor {self.name}: cannot be read: {error}") from None
            if length != cells * size:
                raise InputError(f"{path}: tensor {self.name}: expected {cells * size} bytes, found {length}")
            (row, column), (rows, columns) = chunk.offsets, chunk.sizes
            shards.append(_Shard(path, start, row, column, rows, columns, crc))
        return shards

    def check(self, rows: range) -> None:
        """Verify the shards that hold any of `rows`, all of each.

        Raises:
            InputError: a shard whose bytes are not those that were saved, with its file.
        """
        for shard in self._shards:
            if len(rows) and shard.row < rows.stop and rows.start < shard.row + shard.rows:
                shard.check(self.dtype.itemsize)

    def read(self, rows: range) -> Tensor:
        """[n, D] consecutive rows, in the stored dtype.

        Raises:
            InputError: a file is cut short.
        """
        found = torch.empty(len(rows), self.dim, dtype=self.dtype)
        for shard in self._shards:
            low, high = max(rows.start, shard.row), min(rows.stop, shard.row + shard.rows)
            if low < high:
                cells = shard.cells(self.dtype, low - shard.row, high - shard.row)
                found[low - rows.start : high - rows.start, shard.across] = torch.from_numpy(np.array(cells))
        return found

    def take(self, rows: Tensor) -> Tensor:
        """[n, D] the rows named ([n] int64), in the stored dtype; only their pages of the files are touched.

        Raises:
            InputError: a file is cut short.
        """
        found = torch.empty(len(rows), self.dim, dtype=self.dtype)
        for shard in self._shards:
            here = (rows >= shard.row) & (rows < shard.row + shard.rows)
            cells = shard.cells(self.dtype, 0, shard.rows)
            found[here, shard.across] = torch.from_numpy(cells[(rows[here] - shard.row).numpy()])
        return found


def _record(file: BinaryIO, offset: int, length: int) -> tuple[int, int, int]:
    """Start in the file, bytes and CRC-32 of the one tensor of the archive at `offset`."""
    with zipfile.ZipFile(_Window(file, offset, length)) as archive:
        found = [entry for entry in archive.infolist() if entry.filename.endswith("data/0")]
    if len(found) != 1 or found[0].compress_type != zipfile.ZIP_STORED:
        raise ValueError("expected one uncompressed tensor")
    header = offset + found[0].header_offset
    file.seek(header + 26)
    # The sizes of name and padding in the local header differ from those in the archive's directory.
    name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return header + 30 + name + extra, found[0].file_size, found[0].CRC


class _Window(io.RawIOBase):
    """Bytes [offset, offset + length) of a file as a seekable file."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        super().__init__()
        self.file, self.offset, self.length, self.place = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        self.place = place + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.length}[whence]
        return self.place

    def read(self, size: int = -1) -> bytes:
        left = max(self.length - self.place, 0)
        self.file.seek(self.offset + self.place)
        data = self.file.read(left if size < 0 else min(size, left))
        self.place += len(data)
        return data
