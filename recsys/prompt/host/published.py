"""The files of feedback that a network has been brought up to: all of them, since lists are made of all feedback anew.

    <run>/prompt/host/<name>/feedback/<SHA-256>.parquet    as it came

Files may overlap. A row that several of them tell is one.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.files import replacing

_EVENT = ["timestamp", "user_id", "item_id", "label"]


def files(network: Path) -> list[Path]:
    """Those kept in a network's folder, by name."""
    return sorted((network / "feedback").glob("*.parquet"))


def place(network: Path, source: Path) -> Path:
    """Where a file is kept, or will be.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with source.open("rb") as file:
            return network / "feedback" / f"{hashlib.file_digest(file, 'sha256').hexdigest()}.parquet"
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None


def keep(network: Path, source: Path) -> None:
    """Copy a file to its place, unless it is there."""
    path = place(network, source)
    if not path.exists():
        with replacing(path) as partial:
            shutil.copyfile(source, partial)


def rows(sources: Sequence[Path], columns: list[str]) -> pa.Table:
    """The columns of all rows of the files, each event once, by second; in memory as a whole.

    The order is the same however the rows are dealt to files.

    Raises:
        InputError: a file that cannot be read, or lacks a column.
    """
    named = list(dict.fromkeys([*columns, *_EVENT]))
    groups = (group for source in sources for _, group in read_groups(source, named))
    # Files may name their ids as text or by dictionaries of their own.
    plain = (pa.table({name: decoded(group[name]) for name in named}) for group in groups)
    table = pa.concat_tables(plain, promote_options="permissive")
    events = table.select(_EVENT).to_pandas().drop_duplicates().sort_values(_EVENT)
    return table.take(pa.array(events.index.to_numpy()))
