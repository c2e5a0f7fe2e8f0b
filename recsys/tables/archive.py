"""The archive in which `torch.save` keeps a tensor, as a place in a file: where its bytes are, and their checksum.

It is a zip of a few small records and one uncompressed one with the values. No pickle in it is opened.
"""

import io
import os
import zipfile
import zlib
from typing import BinaryIO

_PIECE = 1 << 22
"""Bytes read at a time."""


def record(file: BinaryIO, offset: int, length: int) -> tuple[int, int, int]:
    """Start in the file, bytes and CRC-32 of the one tensor of the archive at `offset`.

    Raises:
        ValueError, zipfile.BadZipFile, struct.error, EOFError, OverflowError, NotImplementedError: not such an archive.
    """
    with zipfile.ZipFile(_Window(file, offset, length)) as archive:
        entry = archive.infolist()[_place(archive)]
    return _start(file, offset, length, entry), entry.file_size, entry.CRC


def resum(file: BinaryIO, offset: int, length: int) -> None:
    """Put the CRC-32 of a tensor that was written over where a zip has it: behind it, and in the directory at the end.

    Raises:
        as `record`.
    """
    with zipfile.ZipFile(_Window(file, offset, length)) as archive:
        entries, directory, k = archive.infolist(), archive.start_dir, _place(archive)
    file.seek(_start(file, offset, length, entries[k]))
    crc, left = 0, entries[k].file_size
    while left:
        piece = file.read(min(left, _PIECE))
        if not piece:
            raise EOFError("cut short")
        crc, left = zlib.crc32(piece, crc), left - len(piece)
    if entries[k].flag_bits & 8:
        file.seek(4, os.SEEK_CUR)  # the descriptor's signature
        file.write(crc.to_bytes(4, "little"))
    before = sum(46 + len(each.orig_filename.encode()) + len(each.extra) + len(each.comment) for each in entries[:k])
    file.seek(offset + directory + before + 16)
    file.write(crc.to_bytes(4, "little"))


def _place(archive: zipfile.ZipFile) -> int:
    """Of the tensor among the archive's entries."""
    found = [k for k, entry in enumerate(archive.infolist()) if entry.filename.endswith("data/0")]
    if len(found) != 1 or archive.infolist()[found[0]].compress_type != zipfile.ZIP_STORED:
        raise ValueError("expected one uncompressed tensor")
    return found[0]


def _start(file: BinaryIO, offset: int, length: int, entry: zipfile.ZipInfo) -> int:
    header = offset + entry.header_offset
    file.seek(header + 26)
    # The sizes of name and padding in the local header differ from those in the archive's directory.
    name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    start = header + 30 + name + extra
    if not offset <= start <= start + entry.file_size <= offset + length:
        raise ValueError("its tensor reaches out of the archive")
    return start


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
        if self.place < 0:
            raise ValueError("a place before the archive")
        return self.place

    def read(self, size: int = -1) -> bytes:
        left = max(self.length - self.place, 0)
        self.file.seek(self.offset + self.place)
        data = self.file.read(left if size < 0 else min(size, left))
        self.place += len(data)
        return data
