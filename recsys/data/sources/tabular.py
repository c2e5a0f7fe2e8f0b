"""Parquet and CSV files of the user's own, read batch by batch under thawrec's column names and a few plain types."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pyarrow.types as pat

from recsys import storage
from recsys.config import Files
from recsys.data import parquet
from recsys.data.schema import is_list, is_text
from recsys.errors import InputError
from recsys.storage import Location

SUFFIXES = (".parquet", ".csv", ".csv.gz")


@dataclass(frozen=True)
class Batch:
    """Some rows of one file; `first_row` is the file's row number (from 0) of the first of them."""

    path: Location
    first_row: int
    table: pa.Table

    def where(self, row: int, column: str) -> str:
        """Names a row of this batch for an error."""
        return f"{self.path}: row {self.first_row + row}: column {column!r}"


def paths(files: Files, key: str) -> list[Location]:
    """The files that `files.path` names (a file, a folder or a glob, here or in object storage), sorted.

    Raises:
        InputError: there are none; `key` is the config key that names them.
    """
    kept = [path for path in storage.files(files.path) if path.name.endswith(SUFFIXES)]
    if not kept:
        raise InputError(f"{key}.path: {storage.shown(files.path)}: no {', '.join(SUFFIXES)} file there")
    return kept


def batches(files: Files, key: str, required: tuple[str, ...]) -> Iterator[Batch]:
    """Every batch of every file, columns renamed by `files.columns`, types as `plain` leaves them.

    Raises:
        InputError: a file that cannot be read, or a column that is mapped or required and not there.
    """
    renamed = {theirs: ours for ours, theirs in files.columns.items()}
    for path in paths(files, key):
        first_row = 0
        for table in _tables(path, files):
            for ours, theirs in files.columns.items():
                if theirs not in table.column_names:
                    raise _no_column(path, theirs, f"{key}.columns.{ours}", table.column_names)
            table = table.rename_columns([renamed.get(name, name) for name in table.column_names])
            twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
            if twice:
                raise InputError(f"{path}: two columns are called {twice[0]!r}; give one another name in {key}.columns")
            for name in required:
                if name not in table.column_names:
                    raise _no_column(path, name, f"needed; map it in {key}.columns", table.column_names)
            yield Batch(path, first_row, table)
            first_row += table.num_rows


def read_columns(path: Path, required: Collection[str], everything: bool = False) -> pa.Table:
    """A whole Parquet file, its required columns or everything.

    Raises:
        InputError: the file is missing or damaged, or lacks a required column.
    """
    try:
        with pq.ParquetFile(path) as file:
            for name in required:
                if name not in file.schema_arrow.names:
                    raise _no_column(path, name, "needed", file.schema_arrow.names)
            return file.read(columns=None if everything else list(required))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None


def typed(batch: Batch, name: str) -> pa.ChunkedArray | None:
    """The batch's column as `plain` makes it.

    Raises:
        InputError: a value that the plain type cannot hold, such as an unsigned integer of 2^63 or more.
    """
    try:
        return plain(batch.table[name])
    except pa.ArrowInvalid as error:
        raise InputError(f"{batch.path}: column {name!r}: {error}") from None


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column as string, int64, float32/64 or list of string/int64; None for types that no feature can have."""
    kind = column.type
    if pat.is_dictionary(kind):
        return plain(pc.cast(column, kind.value_type))
    if is_text(kind):
        return pc.cast(column, pa.string())
    if pat.is_boolean(kind) or pat.is_integer(kind):
        return pc.cast(column, pa.int64())
    if pat.is_floating(kind):
        return column if not pat.is_float16(kind) else pc.cast(column, pa.float32())
    if pat.is_decimal(kind):
        return pc.cast(column, pa.float64())
    if pat.is_temporal(kind) and not pat.is_time(kind) and not pat.is_duration(kind):
        return seconds(column)
    if is_list(kind) and (is_text(kind.value_type) or pat.is_integer(kind.value_type)):
        return pc.cast(column, pa.list_(pa.string() if is_text(kind.value_type) else pa.int64()))
    return None


def seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A date or timestamp column (naive ones are UTC) as whole seconds, rounded down."""
    micros = pc.cast(pc.cast(column, pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False), pa.int64())
    return pc.cast(pc.floor(pc.divide(pc.cast(micros, pa.float64()), 1e6)), pa.int64())


def _tables(path: Location, files: Files) -> Iterator[pa.Table]:
    try:
        if path.name.endswith(".parquet"):
            with parquet.opened(path, ahead=False) as file:
                if not file.metadata.num_rows:
                    yield file.schema_arrow.empty_table()
                for batch in file.iter_batches():
                    yield pa.Table.from_batches([batch])
        else:
            yield from _csv_tables(path, files)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _csv_tables(path: Location, files: Files) -> Iterator[pa.Table]:
    """Ids and multi-valued columns are read as strings (a leading zero is kept); the rest as the first block looks."""
    texts = [*files.multi, "user_id", "item_id", "title", "text", "categories"]
    kinds = {files.columns.get(name, name): pa.string() for name in texts}
    multi = {files.columns.get(name, name) for name in [*files.multi, "categories"]}
    convert = csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, quoted_strings_can_be_null=False)
    whole = path if isinstance(path, Path) else path.stream()
    with csv.open_csv(whole, convert_options=convert) as reader:
        for batch in reader:
            table = pa.Table.from_batches([batch])
            for name in multi & set(table.column_names):
                place = table.column_names.index(name)
                table = table.set_column(place, name, _split(table[name], files.list_separator))
            yield table


def _split(column: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    """An absent or empty field is an empty list."""
    absent = pc.equal(pc.fill_null(column, ""), "")
    lists = pc.split_pattern(pc.fill_null(column, ""), separator)
    return pc.if_else(absent, pa.scalar([], pa.list_(pa.string())), lists)


def _no_column(path: Location, name: str, why: str, found: list[str]) -> InputError:
    return InputError(f"{path}: no column {name!r} ({why}); it has {', '.join(found)}")
