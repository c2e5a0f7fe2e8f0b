"""Row groups as they are stored: columns of one, strings dictionary-encoded, from the file that was opened first."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.parquet import Stamp, metadata_of, opened, stamp
from recsys.data.pieces import Piece
from recsys.data.schema import is_list, is_text
from recsys.errors import InputError
from recsys.storage import Location

_CHUNKS = 1 << 15
"""Columns of row groups, over all files, whose footers are kept: about a kilobyte each. The last file's always are."""


@dataclass(frozen=True)
class Footer:
    """What the end of a file says of it."""

    metadata: pq.FileMetaData
    texts: list[str]
    """`text_columns` of it."""

    @property
    def chunks(self) -> int:
        """What it tells of: columns of row groups."""
        return self.metadata.num_row_groups * self.metadata.num_columns


Footers = Callable[[Location, Stamp], Footer]
"""The footer of a file that was last written as its `stamp` says."""


def footers() -> Footers:
    """Reads footers and keeps a few: whoever reads a row group would otherwise parse those of all others again."""
    kept: dict[tuple[Location, Stamp], Footer] = {}
    lock = Lock()

    def known(path: Location, last: Stamp) -> Footer:
        with lock:
            found = kept.pop((path, last), None)
        found = found or _footer(path)
        with lock:
            kept[path, last] = found  # the newest is the last
            while len(kept) > 1 and sum(each.chunks for each in kept.values()) > _CHUNKS:
                del kept[next(iter(kept))]
        return found

    return known


def _footer(path: Location) -> Footer:
    metadata = metadata_of(path)
    return Footer(metadata, text_columns(metadata.schema.to_arrow_schema()))


def text_columns(schema: pa.Schema) -> list[str]:
    """Columns to read dictionary-encoded, so that only distinct strings are hashed."""
    names = []
    for field in schema:
        if is_text(field.type):
            names.append(field.name)
        elif is_list(field.type) and is_text(field.type.value_type):
            names.append(f"{field.name}.list.element")
    return names


def read_group(piece: Piece, columns: list[str], known: Footers) -> pa.Table:
    """`columns` of the whole row group that the piece is of.

    Raises:
        InputError: the file cannot be read or is another by now, named with its row group.
    """
    try:
        footer = known(piece.path, piece.stamp)
        with opened(piece.path, footer.texts, footer=footer.metadata) as file:
            # Between opening and reading: what is put in its place from here on is not what is read.
            _require_same(piece)
            table = file.read_row_group(piece.group, columns=columns)
        if not isinstance(piece.path, Path):
            _require_same(piece)  # but of an object each range is of what has its name by then
        return table
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{piece.path}: row group {piece.group}: cannot be read: {error}") from None


def _require_same(piece: Piece) -> None:
    if stamp(piece.path) != piece.stamp:
        raise InputError(
            f"{piece.path}: row group {piece.group}: expected the file as when the split was opened; it has "
            "been written since"
        )
