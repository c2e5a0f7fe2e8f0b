"""A log as one dataset directory a day, for training that goes on day by day.

    <data.path>/days.json           what was made of which files, and every day's digest; written last
    <data.path>/day-00000/          a dataset directory like any other, of the day's rows (split rule `daily`)

A day depends on itself and the days before it alone: its histories hold strictly earlier rows, its users and items are
those that have come up to it. Its digest is over its rows and all before them, so that a log that grows leaves the days
that are there as they are, and one whose past has changed does not. In what order files bring the rows of different
seconds makes no difference.

Feature values of users and items are those that the source had when the day was made. They are not in the digest: a
source that tells others later changes the days made from then on and none before. What columns there are, and their
types, is.

A new day costs the reading of the whole log, some 130 bytes of memory a row. Each day's directory holds all users and
items that have come up to it.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Data
from recsys.data import schema, sources
from recsys.data.log import Codes, Log
from recsys.data.prepare import MADE_BY, Divided, fingerprint
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.files import replacing

DAY = 86400
DIVIDED_BY = 1
"""Raised whenever the same log and settings would give other days."""
_FILE = "days.json"


@dataclass(frozen=True)
class Day:
    """One day of a log: its number, from 0 for the log's first, its dataset directory, and that one's fingerprint,
    `<settings>.<rows>`: digests of its columns and of what the config says, and of those and all rows up to it."""

    number: int
    path: Path
    fingerprint: str

    @property
    def name(self) -> str:
        """Such as day-00003."""
        return self.path.name

    @property
    def settings(self) -> str:
        """The digest of its columns and of what the config says."""
        return self.fingerprint.partition(".")[0]


def prepare(data: Data, utc_offset: float = 0.0) -> list[Day]:
    """Make the dataset directories of the days of `data.source`, oldest first; those that are right stay as they are.

    A day without rows is left out.

    Args:
        utc_offset: hours that the clock is ahead of UTC where a day begins at midnight.

    Raises:
        InputError: bad source files, another split rule than `daily`, labels that are drawn among items to come, or a
            folder in the way that this function has not made.
    """
    if data.split.rule != "daily" or data.label.rule == "observed":
        raise InputError(
            f"data.split.rule={data.split.rule}, data.label.rule={data.label.rule}: expected the rule daily, and "
            "labels that are not drawn (column, liked)"
        )
    root = Path(data.path)
    mark = f"{fingerprint(data)} {utc_offset:g} {DIVIDED_BY}"
    told = _told(root)
    if told.get("mark") != mark:
        if not told and root.exists() and any(root.iterdir()):
            raise InputError(f"{root}: holds files but no {_FILE}; expected days of a log or nothing there")
        with replacing(root / _FILE) as partial:  # the folder is ours from here on
            partial.write_text(json.dumps({"mark": "", "days": []}))
        log = sources.load(data).by_time()
        told = {"mark": mark, "days": dict(_written(log, data, utc_offset, root))}
        with replacing(root / _FILE) as partial:
            partial.write_text(json.dumps(told, indent=1))
    return [Day(int(number), root / f"day-{int(number):05d}", digest) for number, digest in told["days"].items()]


def _told(root: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads((root / _FILE).read_text()))
    return {}


def _written(log: Log, data: Data, utc_offset: float, root: Path) -> Iterator[tuple[int, str]]:
    """Write the days that are not there; number and fingerprint of all."""
    divided = Divided.of(log, data)
    day = (log.time + round(utc_offset * 3600)) // DAY
    day -= day.min()
    users, items = (_first(codes, past, day, table.num_rows) for codes, past, table in _owners(log))
    ordered = day[divided.order]
    numbers, starts = np.unique(ordered, return_index=True)
    settings = _settings(log, data, utc_offset)
    digest = f"{settings}.{_past(log)}"
    for number, rows in zip(numbers.tolist(), np.split(divided.order, starts[1:]), strict=True):
        digest = f"{settings}.{_digest(divided, rows, digest)}"
        path = root / f"day-{number:05d}"
        if _fingerprint(path) != digest:
            with replacing(path) as partial:
                partial.mkdir()
                known = (log.users.filter(pa.array(users <= number)), log.items.filter(pa.array(items <= number)))
                divided.write(partial, rows, *known, digest)
        yield number, digest


def lacking(path: Path) -> str:
    """What a day's dataset lacks to be trained on, in words; empty: nothing."""
    for split in ("train", "valid", "test"):
        labels: set[int] = set()
        for file in schema.split_files(path, split):
            with pq.ParquetFile(file) as opened:
                labels.update(pc.unique(opened.read(columns=["label"])["label"]).to_pylist())
        if not labels:
            return f"no rows in split={split}"
        if split != "test" and len(labels) == 1:
            return f"one label only in split={split}"
    return ""


def _owners(log: Log) -> list[tuple[Codes, Codes, pa.Table]]:
    return [(log.user, log.past.user, log.users), (log.item, log.past.item, log.items)]


def _first(codes: Codes, past: Codes, day: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """[count] the first day of each user or item: before all where the log's past names it."""
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, day)
    first[past] = -1
    return first


def _fingerprint(path: Path) -> str:
    return schema.read_info(path).fingerprint if (path / schema.MANIFEST).exists() else ""


def _settings(log: Log, data: Data, utc_offset: float) -> str:
    """A digest of the columns, and of all in the config but where the log is."""
    source = asdict(data.source)
    for name in ("path", "cache", "licence"):
        del source[name]
    source["content"] = data.source.content is not None
    for files in filter(None, (source["interactions"], source["users"], source["items"])):
        del files["path"]
    columns = [
        [f"{column.name}: {column.type}" for column in table.schema] for table in (log.users, log.items, log.context)
    ]
    settings = [asdict(data.label), asdict(data.split), data.history, data.row_group, utc_offset]
    told = [source, columns, settings, schema.SCHEMA_VERSION, MADE_BY, DIVIDED_BY]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _past(log: Log) -> str:
    past = log.past
    told = hashlib.sha256()
    for column in (_keys(log.users, past.user), _keys(log.items, past.item), past.time, past.liked):
        told.update(np.ascontiguousarray(column).tobytes())
    return told.hexdigest()


def _digest(divided: Divided, rows: npt.NDArray[np.int64], before: str) -> str:
    """SHA-256 over the rows of a day [n], and what was digested before them."""
    log = divided.log
    told = hashlib.sha256(before.encode())
    ids = (_keys(log.users, log.user[rows]), _keys(log.items, log.item[rows]))
    for column in (*ids, log.time[rows], divided.label[rows], divided.made.split[rows], log.value[rows]):
        told.update(np.ascontiguousarray(column).tobytes())
    context = log.context.take(pa.array(rows)) if log.context.column_names else log.context
    plain = pa.table([decoded(column).combine_chunks() for column in context], names=context.column_names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as stream:
        stream.write_table(plain)
    told.update(sink.getvalue())
    return told.hexdigest()


def _keys(table: pa.Table, codes: Codes) -> npt.NDArray[np.uint64]:
    """[n] hashes of raw ids, the first column of a table, by their codes: codes may differ once the log has grown."""
    ids = table[0].to_numpy() if len(table) else np.zeros(0)
    return pd.util.hash_array(ids, categorize=False)[codes]
