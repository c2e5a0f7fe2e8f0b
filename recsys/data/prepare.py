"""From a raw log to the dataset directory that everything else reads.

Memory: the log as compact codes, about 45 bytes a row (ids 8, second 8, value 4, label 1, split and rank 5, history
ends 8, tie keys 8, context as it comes) and up to twice that again while sorting; 5 million rows peak at 0.8 GB, of
which 0.15 are libraries. Histories become lists one chunk of rows at a time. Rows of a file are in order of time, as a
log's are; rows of one second in seeded order.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from recsys import storage
from recsys.config import Data
from recsys.data import history as histories
from recsys.data import labels, parquet, schema, sources, splits
from recsys.data.history import History
from recsys.data.labels import Examples
from recsys.data.log import Labels, Log, Past
from recsys.data.schema import Info
from recsys.errors import InputError
from recsys.storage import Location

PART_ROWS = 1 << 20
"""Most rows in a part file."""

MADE_BY = 2
"""Raised whenever the same config and source would give other files."""


def prepare(data: Data) -> tuple[Info, bool]:
    """Make the dataset directory `data.path`; returns its manifest and whether anything had to be done.

    Everything is written under a temporary sibling name and renamed, the manifest last; where nothing can be renamed,
    in object storage, in its place, the old manifest removed first. A directory that was made from the same config and
    source is left alone, one made otherwise by this function is replaced.

    Raises:
        InputError: bad source files, a split that comes out empty, a directory in the way that is no dataset, or object
            storage that refuses.
    """
    if data.split.rule == "daily":
        raise InputError("data.split.rule=daily: expected another rule: tools.daily prepares a dataset for each day")
    path = storage.at(data.path)
    mark = fingerprint(data)
    if (path / schema.MANIFEST).exists():
        info = schema.read_info(path)
        if info.fingerprint == mark:
            return info, False
        if not info.fingerprint:
            raise InputError(
                f"{path}: this dataset was not made by tools.prepare and is left alone; use another data.path"
            )
    elif not storage.is_free(path):
        raise InputError(f"{path}: holds files but no {schema.MANIFEST}; expected a dataset directory or nothing there")
    log = sources.load(data)
    with storage.replacing_folder(path, schema.MANIFEST) as folder:
        return write(log, data, folder, mark), True


def write(log: Log, data: Data, path: Location, fingerprint: str = "") -> Info:
    """Label, split and write the log as the dataset directory `path`, which is empty; returns the manifest."""
    divided = Divided.of(log, data)
    return divided.write(path, divided.order, log.users, log.items, fingerprint)


@dataclass(frozen=True, kw_only=True)
class Divided:
    """A log of N rows with its labels, splits and histories."""

    log: Log
    data: Data
    label: Labels
    """[N]"""
    made: splits.Assignment
    seen: History
    order: npt.NDArray[np.int64]
    """[N] its rows in order of time, rows of one second by seed."""

    @staticmethod
    def of(log: Log, data: Data) -> "Divided":
        """Label and split a log, and find its rows' histories."""
        label = labels.of_rows(log, data.label)
        rows = splits.Rows(user=log.user, item=log.item, time=log.time, label=label, items=log.items.num_rows)
        made = splits.assign(rows, data.split)
        ties = splits.seeded_keys(len(log.time), data.split.seed, 2)
        seen = _history(log, data, label, made, ties)
        return Divided(log=log, data=data, label=label, made=made, seen=seen, order=np.lexsort((ties, log.time)))

    def write(
        self, path: Location, rows: npt.NDArray[np.int64], users: pa.Table, items: pa.Table, fingerprint: str = ""
    ) -> Info:
        """Write rows of the log, in order of time, as the dataset directory `path`, which is empty.

        users, items: the tables to write with them; they hold whoever the rows and their histories name.
        """
        log, data = self.log, self.data
        counts, times, undrawn = _interactions(self, rows, path)
        _write_table(users, path / schema.USERS)
        _write_table(items, path / schema.ITEMS)
        _write_table(_held_out(log, self.made), path / schema.HELD_OUT)
        exposure = data.split.rule == "exposure"
        info = Info(
            schema_version=schema.SCHEMA_VERSION,
            name=log.name,
            source=log.source,
            licence=log.licence,
            label=labels.describe(data.label),
            split=data.split.rule,
            cut=data.split.cut if exposure else None,
            seed=data.split.seed,
            history=data.history,
            history_labels=True,
            counts=counts,
            time_range=times,
            users=users.num_rows,
            items=items.num_rows,
            exposures=splits.exposures(data.split),
            context=log.context.column_names,
            notes=[*log.notes, *_notes(log, self.made, undrawn)],
            fingerprint=fingerprint,
        )
        schema.write_settings(data, path)
        schema.write_info(info, path)
        return info


def _history(log: Log, data: Data, label: Labels, made: splits.Assignment, ties: npt.NDArray[np.uint64]) -> History:
    kept = ~made.masked[log.past.item]
    past = Past(
        user=log.past.user[kept], item=log.past.item[kept], time=log.past.time[kept], liked=log.past.liked[kept]
    )
    return histories.build(
        log.user,
        log.item,
        log.time,
        labels.liked(log, data.label, label),
        made.remembered,
        ties,
        past,
        log.users.num_rows,
        data.history,
    )


def _notes(log: Log, made: splits.Assignment, undrawn: int) -> Iterator[str]:
    held = int(np.count_nonzero(made.group != ""))
    if held:
        scored = int(np.count_nonzero(made.scored))
        yield f"{held} of {len(made.group)} items are held out as new, {scored} of them scored"
    dropped = int(np.count_nonzero(made.split == splits.DROPPED))
    if dropped:
        yield f"{dropped} of {len(log.time)} rows are in no split under this rule"
    if undrawn:
        yield f"{undrawn} negatives could not be drawn: their users have seen nearly every item"
    masked = int(np.count_nonzero(made.masked[log.past.item]))
    if masked:
        yield f"{masked} of {len(log.past.item)} earlier events are of masked items and in no history"


def fingerprint(data: Data) -> str:
    """Of the config and the source's files: equal means that preparing again would change nothing."""
    config = asdict(data)
    del config["path"]
    del config["source"]["cache"]
    state = [config, sources.fingerprint(data), schema.SCHEMA_VERSION, MADE_BY]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _interactions(
    divided: Divided, of: npt.NDArray[np.int64], path: Location
) -> tuple[dict[str, int], dict[str, list[int]], int]:
    """Write every split of the rows; their rows and time range by split, and how many negatives could not be drawn."""
    log, data, made = divided.log, divided.data, divided.made
    counts: dict[str, int] = {}
    times: dict[str, list[int]] = {}
    undrawn = 0
    for code, split in enumerate(schema.SPLITS):
        rows = of[made.split[of] == code]
        if not len(rows):
            continue
        seed = data.split.seed * 4 + code
        asked, missed = labels.examples(rows, log, divided.label, data.label, made.pool, seed)
        undrawn += missed
        names = [*schema.COLUMNS, *log.context.column_names]
        if split == "feedback":
            names.append("rank")
        writer = _Chunks(log=log, rank=made.rank, seen=divided.seen, names=names)
        _write_split(writer, asked, path / "interactions" / f"split={split}", data.row_group, split)
        counts[split] = len(asked.row)
        times[split] = [int(log.time[rows[0]]), int(log.time[rows[-1]])]
    return counts, times, undrawn


class _Chunks:
    """Turns examples into Arrow tables, a chunk at a time."""

    def __init__(self, log: Log, rank: npt.NDArray[np.int32], seen: History, names: list[str]) -> None:
        self.log, self.rank, self.seen, self.names = log, rank, seen, names
        self.user_ids = log.users["user_id"].combine_chunks()
        self.item_ids = log.items["item_id"].combine_chunks()

    def table(self, asked: Examples, part: slice) -> pa.Table:
        """The examples of `part` with every column of the split."""
        log, rows = self.log, asked.row[part]
        users = log.user[rows]
        offsets, positions = self.seen.of(rows, users)
        value = log.value[rows]
        count, liked = self.seen.totals(rows, users)
        columns = {
            "user_id": self.user_ids.take(pa.array(users)),
            "item_id": self.item_ids.take(pa.array(asked.item[part])),
            "timestamp": pa.array(log.time[rows]),
            "label": pa.array(asked.label[part]),
            "value": pa.array(value, mask=np.isnan(value) | asked.drawn[part]),
            "history": pa.ListArray.from_arrays(pa.array(offsets), self._ids(self.seen.item[positions])),
            "history_label": pa.ListArray.from_arrays(pa.array(offsets), pa.array(self.seen.liked[positions])),
            "history_count": pa.array(count),
            "history_liked": pa.array(liked, mask=count == 0),
        }
        for name in log.context.column_names:
            column = log.context[name].take(pa.array(rows))
            columns[name] = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        if "rank" in self.names:
            columns["rank"] = pa.array(self.rank[rows])
        return pa.table([columns[name] for name in self.names], names=self.names)

    def _ids(self, codes: npt.NDArray[np.int32]) -> pa.Array:
        if not schema.is_text(self.item_ids.type):
            return self.item_ids.take(pa.array(codes))
        # Only ids that occur go into the chunk's dictionary, which Parquet then writes as it is.
        used, place = np.unique(codes, return_inverse=True)
        return pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32)), self.item_ids.take(pa.array(used)))


def _write_split(chunks: _Chunks, asked: Examples, folder: Location, row_group: int, split: str) -> None:
    if isinstance(folder, Path):
        folder.mkdir(parents=True)
    asked = _in_time_order(asked, chunks.log)
    total = len(asked.row)
    with tqdm(total=total, desc=f"writing {split}", unit=" rows", disable=not sys.stderr.isatty()) as progress:
        for number, (first, last) in enumerate(_parts(total, row_group)):
            writer: pq.ParquetWriter | None = None
            try:
                for start in range(first, last, row_group):
                    part = slice(start, min(start + row_group, last))
                    table = chunks.table(asked, part)
                    if writer is None:
                        name = folder / f"part-{number:05d}.parquet"
                        writer = parquet.writer(name, table.schema)
                    writer.write_table(table, row_group_size=row_group)
                    progress.update(table.num_rows)
            finally:
                if writer is not None:
                    writer.close()


def _in_time_order(asked: Examples, log: Log) -> Examples:
    """Drawn examples right after the logged one that they belong to."""
    if not asked.drawn.any():
        return asked
    place = np.zeros(len(log.time), np.int64)
    logged = asked.row[~asked.drawn]
    place[logged] = np.arange(len(logged))
    order = np.lexsort((asked.drawn, place[asked.row]))
    return Examples(row=asked.row[order], item=asked.item[order], label=asked.label[order], drawn=asked.drawn[order])


def _parts(total: int, row_group: int) -> Iterator[tuple[int, int]]:
    """First and last row of each part file, whole row groups each."""
    size = max(PART_ROWS // row_group, 1) * row_group
    for first in range(0, total, size):
        yield first, min(first + size, total)


def _held_out(log: Log, made: splits.Assignment) -> pa.Table:
    held = np.flatnonzero(made.group != "")
    return pa.table(
        {
            "item_id": log.items["item_id"].combine_chunks().take(pa.array(held)),
            "group": pa.array(made.group[held].tolist(), pa.string()),
            "scored": pa.array(made.scored[held]),
        }
    )


def _write_table(table: pa.Table, path: Location) -> None:
    plain = [
        pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in table
    ]
    table = pa.table(plain, names=table.column_names)
    with parquet.writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=8192)
