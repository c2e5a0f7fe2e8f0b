"""Logs of the user's own: Parquet or CSV files, their columns mapped in the config (`data.source.interactions`, ...).

Interactions need user_id, item_id, timestamp (seconds, or a date or timestamp type) and value or label. Every other
column becomes a context column, so it must be known when the item is shown. Ids are int64 if all Parquet files say so,
otherwise strings. Users and items without a row in their file (or without a file) are added with nulls.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from recsys.config import Files, Source
from recsys.data.log import Log, items_table
from recsys.data.parquet import stamp
from recsys.data.schema import RESERVED, is_text
from recsys.data.sources.tabular import Batch, batches, paths, typed
from recsys.errors import InputError
from recsys.storage import Location, shown

NEEDED = ("user_id", "item_id", "timestamp")
LATEST = 100_000_000_000
"""Seconds beyond this (the year 5138) are taken for milliseconds."""
ITEM_COLUMNS = {
    "title": pa.string(),
    "text": pa.string(),
    "categories": pa.list_(pa.string()),
    "image": pa.binary(),
    "first_seen": pa.int64(),
}


def load(source: Source) -> Log:
    """The log of `source.interactions`, `source.users` and `source.items`.

    Raises:
        InputError: a missing, mistyped or null column or an impossible value, with file, row and column.
    """
    if source.interactions is None:
        raise InputError("data.source.interactions: expected files for kind: files")
    columns, dropped, clock = _interactions(source.interactions)
    users = _entities(source.users, "users", "user_id")
    items = _entities(source.items, "items", "item_id")
    user, users, user_note = _join(columns.pop("user_id"), users, "user_id")
    item, items, item_note = _join(columns.pop("item_id"), items, "item_id")
    time = np.asarray(columns.pop("timestamp"))
    value = columns.pop("value", None)
    label = columns.pop("label", None)
    notes = [note for note in (user_note, item_note, clock.note) if note]
    notes += [f"column {name!r} left out: no feature can have the type {kind}" for name, kind in dropped.items()]
    return Log(
        name=_named(source.interactions.path),
        source=shown(source.interactions.path),
        licence=source.licence,
        users=users,
        items=_items(items),
        user=user,
        item=item,
        time=time,
        value=np.full(len(time), np.nan, np.float32) if value is None else _floats(value),
        label=None if label is None else np.asarray(label).astype(np.int8),
        context=pa.table(columns),
        notes=tuple(notes),
    )


def stamps(path: str | None) -> list[str]:
    """Name, size and modification time of the file, or of every file below the folder."""
    if not path:
        raise InputError("data.source.path: expected the folder of the raw data, such as data.source.path=/data/raw")
    if not Path(path).exists():
        raise InputError(f"data.source: {path}: no such file or folder")
    root = Path(path)
    return _stamps(sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root])


def fingerprint(source: Source) -> list[str]:
    """Stamps of every file that `load` would read."""
    found: list[str] = []
    for key, files in (("interactions", source.interactions), ("users", source.users), ("items", source.items)):
        found += _stamps(paths(files, f"data.source.{key}")) if files else []
    return found


def _stamps(files: Iterable[Location]) -> list[str]:
    try:
        return [" ".join([file.name, *map(str, stamp(file))]) for file in files]
    except OSError as error:
        raise InputError(f"data.source: cannot be looked at: {error}") from None


@dataclass
class _Clock:
    """How often, and by how much, the rows of a file go back in time. Whoever takes the log puts them in order."""

    rows: int = 0
    seconds: int = 0
    where: str = ""
    last: int = 0

    def see(self, batch: Batch, seconds: np.ndarray) -> None:
        """Look at the next rows [n] of a file."""
        back = -np.diff(seconds, prepend=self.last if batch.first_row else seconds[:1])
        if (back > 0).any():
            self.where = self.where or batch.where(int(np.argmax(back > 0)), "timestamp")
            self.rows += int(np.count_nonzero(back > 0))
            self.seconds = max(self.seconds, int(back.max()))
        self.last = int(seconds[-1]) if len(seconds) else self.last

    @property
    def note(self) -> str:
        if not self.rows:
            return ""
        return (
            f"{self.rows} rows are older than the row before them, by up to {self.seconds} seconds, the first at "
            f"{self.where}: put in order of time"
        )


def _interactions(files: Files) -> tuple[dict[str, pa.ChunkedArray], dict[str, str], _Clock]:
    """Columns of all files, strings dictionary-encoded; the types of columns that were left out; order in time."""
    clock = _Clock()
    chunks: dict[str, list[pa.Array]] = {}
    dropped: dict[str, str] = {}
    first: Batch | None = None
    for batch in batches(files, "data.source.interactions", NEEDED):
        if first is None:
            first = batch
            if not {"value", "label"} & set(batch.table.column_names):
                raise InputError(f"{batch.path}: expected a column 'value' or 'label'; map it in interactions.columns")
            taken = sorted(set(batch.table.column_names) & set(RESERVED) - {*NEEDED, "value", "label"})
            if taken:
                raise InputError(
                    f"{batch.path}: column {taken[0]!r} is a name of thawrec's own; map it to another name"
                )
        if batch.table.column_names != first.table.column_names:
            raise InputError(
                f"{batch.path}: columns differ from those of {first.path}: {', '.join(batch.table.column_names)}"
            )
        for name in batch.table.column_names:
            column = _checked(batch, name)
            if name == "timestamp":
                clock.see(batch, np.asarray(column))
            if column is None:
                dropped[name] = str(batch.table[name].type)
            else:
                chunks.setdefault(name, []).extend(column.chunks)
    columns = {name: _joined(name, parts, files) for name, parts in chunks.items() if name not in dropped}
    return columns, dropped, clock


def _checked(batch: Batch, name: str) -> pa.ChunkedArray | None:
    column = batch.table[name]
    found = typed(batch, name)
    if name in NEEDED:
        _no_nulls(batch, name, column)
    if name in ("user_id", "item_id"):
        if found is None or not (is_text(found.type) or pat.is_integer(found.type)):
            raise InputError(f"{batch.path}: column {name!r}: expected string or integer ids, found {column.type}")
        return pc.dictionary_encode(found)
    if found is None:
        if name in ("timestamp", "value", "label"):
            raise InputError(f"{batch.path}: column {name!r}: expected numbers, found {column.type}")
        return None
    if name == "timestamp":
        return _seconds(batch, found)
    if name == "label":
        return _zero_or_one(batch, found)
    if name == "value":
        if is_text(found.type):
            raise InputError(f"{batch.path}: column 'value': expected numbers, found {column.type}")
        return pc.cast(found, pa.float32(), safe=False)
    return pc.dictionary_encode(found) if is_text(found.type) else found


def _no_nulls(batch: Batch, name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        row = int(np.argmax(np.asarray(pc.is_null(column))))
        raise InputError(f"{batch.where(row, name)}: is null; expected a value in every row")


def _seconds(batch: Batch, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if is_text(column.type) or pat.is_nested(column.type):
        raise InputError(f"{batch.path}: column 'timestamp': expected seconds or a timestamp, found {column.type}")
    values = np.asarray(column).astype(np.float64)
    bad = ~(np.abs(values) < LATEST)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{batch.where(row, 'timestamp')}: {values[row]:.0f}: expected seconds since 1970")
    return pa.chunked_array([pa.array(np.floor(values).astype(np.int64))])


def _zero_or_one(batch: Batch, column: pa.ChunkedArray) -> pa.ChunkedArray:
    _no_nulls(batch, "label", column)
    if is_text(column.type) or pat.is_nested(column.type):
        raise InputError(f"{batch.path}: column 'label': expected 0 or 1, found {column.type}")
    values = np.asarray(column).astype(np.float64)
    bad = (values != 0) & (values != 1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{batch.where(row, 'label')}: {values[row]:g}: expected 0 or 1")
    return pa.chunked_array([pa.array(values.astype(np.int8))])


def _joined(name: str, parts: list[pa.Array], files: Files) -> pa.ChunkedArray:
    try:
        column = pa.chunked_array(parts)
    except (pa.ArrowInvalid, TypeError):
        kinds = sorted({str(part.type) for part in parts})
        raise InputError(
            f"{files.path}: column {name!r} has different types in different places: {', '.join(kinds)}"
        ) from None
    return column.unify_dictionaries() if pat.is_dictionary(column.type) else column


def _entities(files: Files | None, key: str, name: str) -> pa.Table | None:
    """Users or items with distinct, non-null ids."""
    if files is None:
        return None
    tables = []
    for batch in batches(files, f"data.source.{key}", (name,)):
        _no_nulls(batch, name, batch.table[name])
        found = {column: typed(batch, column) for column in batch.table.column_names}
        if name == "item_id" and "image" in batch.table.column_names:
            found["image"] = batch.table["image"]
        tables.append(pa.table({column: values for column, values in found.items() if values is not None}))
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise InputError(f"{files.path}: files differ in columns or types: {error}") from None
    ids = table[name]
    if not (is_text(ids.type) or pat.is_integer(ids.type)):
        raise InputError(f"{files.path}: column {name!r}: expected string or integer ids, found {ids.type}")
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise InputError(
            f"{files.path}: column {name!r}: {twice[0]['values']} occurs {twice[0]['counts']} times; expected once"
        )
    return table


def _join(coded: pa.ChunkedArray, table: pa.Table | None, name: str) -> tuple[npt.NDArray[np.int32], pa.Table, str]:
    """Each row's code, the table with a row for every id that the interactions name, and a note on ids it lacked."""
    ids = coded.chunk(0).dictionary if coded.num_chunks else pa.array([], pa.string())
    codes = np.concatenate([np.asarray(chunk.indices) for chunk in coded.chunks]) if coded.num_chunks else np.zeros(0)
    if table is None:
        return codes.astype(np.int32), pa.table({name: ids}), ""
    if table[name].type != ids.type:
        ids = pc.cast(ids, pa.string())
        table = table.set_column(table.column_names.index(name), name, pc.cast(table[name], pa.string()))
    place = pc.index_in(ids, table[name])
    missing = ids.filter(pc.is_null(place))
    note = ""
    if len(missing):
        note = (
            f"{len(missing)} values of {name}, such as {missing[0]}, have no row of their own: added without features"
        )
        table = pa.concat_tables([table, pa.table({name: missing})], promote_options="default")
        place = pc.index_in(ids, table[name])
    return np.asarray(place).astype(np.int32)[codes.astype(np.int64)], table, note


def _items(table: pa.Table) -> pa.Table:
    known: dict[str, pa.Array | pa.ChunkedArray | list] = {"item_id": table["item_id"]}
    for name, kind in ITEM_COLUMNS.items():
        if name in table.column_names:
            try:
                known[name] = pc.cast(table[name], kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise InputError(f"items: column {name!r}: expected {kind}, found {table[name].type}") from None
            if kind == pa.string():
                known[name] = pc.fill_null(known[name], "")
    return items_table(known, {name: table[name] for name in table.column_names if name not in known})


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    return np.asarray(pc.fill_null(column, float("nan"))).astype(np.float32)


def _named(pattern: str) -> str:
    """`logs` of `logs/*.csv` and of `logs.csv`."""
    path = Path(shown(pattern))
    return next((part for part in (path.stem, *reversed(path.parts[:-1])) if "*" not in part), "logs")
