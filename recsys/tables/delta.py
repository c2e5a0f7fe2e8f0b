"""A delta: rows of tables that travel, as one folder of Parquet under a manifest.

    manifest.json        its place in the run's log, the versions it was made for, its tables, a checksum of every file
    <table>.parquet      table, item_id, row, vector, state, source, base_version, delta; by row, each row once

Trainer, checkpoint and serving bundle apply the same folder (`recsys.tables.live`, `.patch`, `.overlay`). `state` is
what row-wise Adagrad keeps of the row, 0 as of an untrained one; `item_id` owns the row, null leaves it to nobody (row
0 is always nobody's); `source` says what made the vector; `base_version` is lineage/dense/step of the tables it was
made for; `delta` is the number that it came into the log with, which compaction keeps. The manifest tells the audience
of each table: a bundle leaves what is for training, all others leave what is for serving; what is theirs they must be
able to take. Pieces of at most `ROWS` rows are in memory at a time (`recsys.tables.piece`). Needs torch and pyarrow
alone.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.files import sync
from recsys.tables import manifest
from recsys.tables.piece import Audience, Piece, arrow, column, from_table, schema_of, to_table
from recsys.tables.version import Version

FORMAT = manifest.Format("thawrec-delta", 1, "not a whole delta")
ROWS = 65536
"""Most rows of a piece, and of a Parquet row group."""
WIDEST = 65536
"""Most columns of a table."""


@dataclass(frozen=True)
class Stored:
    """The part of a delta that is of one table: `rows` rows of width `dim`, ids of type `id_type`, and who takes it."""

    rows: int
    dim: int
    id_type: str
    audience: Audience = "both"


@dataclass(frozen=True)
class Delta:
    """A delta on disk.

    Attributes:
        first, last: the deltas of the run's log that it stands for; first = last + 1 where it is of none.
        steps: of a difference between two states of training, the steps of both; None: its rows come from outside.
        bases: the versions that its rows were made for.
        forced: it was let into the log although made for another trained dense part.
        made_of: digests of the deltas from elsewhere that it was made of; digest: its own.
    """

    folder: Path
    first: int
    last: int
    steps: tuple[int, int] | None
    bases: tuple[Version, ...]
    tables: dict[str, Stored]
    forced: bool
    made_of: tuple[str, ...]
    digest: str

    @property
    def rows(self) -> int:
        """Rows of all its tables."""
        return sum(stored.rows for stored in self.tables.values())

    def taken_by(self, who: Literal["training", "serving"]) -> dict[str, Stored]:
        """The tables that this kind of target takes, and must have."""
        return {name: stored for name, stored in self.tables.items() if stored.audience in (who, "both")}

    def pieces(self, table: str, place: int = 0, places: int = 1, after: int = -1) -> Iterator[Piece]:
        """The `place`-th of `places` shares of a table's pieces, in order of rows.

        Args:
            after: leave out the rows that came into the log with this number or before: who takes them holds those.

        Raises:
            InputError: a piece that is not as a delta must be, with its file, row group and column.
        """
        path = self.folder / f"{table}.parquet"
        known = {base.base for base in self.bases}
        with _opened(path) as file:
            _check_groups(path, file, self.tables[table])
            for k in range(place, file.num_row_groups, places):
                piece = from_table(f"{path}: row group {k}", table, _group(path, file, k), known)
                _require_numbers(f"{path}: row group {k}", piece, self)
                newer = piece.numbers > after
                piece = replace(piece, audience=self.tables[table].audience)
                yield piece if newer.all() else piece.take(newer.nonzero().squeeze(1))

    def owners(self, table: str, after: int = -1) -> tuple[Tensor, pa.Array]:
        """Rows [n] int64 of a table and who owns them then, without their vectors; `after` as for `pieces`.

        Raises:
            InputError: the file cannot be read, or a column is not as it must be.
        """
        path = self.folder / f"{table}.parquet"
        rows, ids = [torch.zeros(0, dtype=torch.int64)], [pa.nulls(0, _id_type(path, self.tables[table].id_type))]
        with _opened(path) as file:
            _check_groups(path, file, self.tables[table])
            for k in range(file.num_row_groups):
                found = _group(path, file, k, ["row", "item_id", "delta"])
                where = f"{path}: row group {k}"
                newer = column(where, found, "delta") > after
                rows.append(column(where, found, "row")[newer])
                ids.append(found["item_id"].combine_chunks().take(arrow(newer.nonzero().squeeze(1))))
        return torch.cat(rows), pa.concat_arrays(ids)

    def groups(self, table: str) -> int:
        """Pieces of a table."""
        with _opened(self.folder / f"{table}.parquet") as file:
            return file.num_row_groups

    def check(self, look: Callable[[Piece], object] = lambda piece: None, place: int = 0, places: int = 1) -> None:
        """Look at every row of a share of the pieces, and at the order of all.

        Args:
            look: is shown every piece of the share, and raises where whoever takes the delta could not take it.

        Raises:
            InputError: the first thing that is not as a delta must be, or `look`'s.
        """
        for table in self.tables:
            path = self.folder / f"{table}.parquet"
            last = -1
            with _opened(path) as file:
                for k in range(file.num_row_groups):
                    rows = column(f"{path}: row group {k}", _group(path, file, k, ["row"]), "row")
                    if len(rows) and int(rows[0]) <= last:
                        raise InputError(f"{path}: row group {k}: column row: expected more than {last}, the last one")
                    last = int(rows[-1]) if len(rows) else last
            for piece in self.pieces(table, place, places):
                look(piece)


def write(
    folder: Path,
    pieces: Iterable[Piece],
    first: int,
    last: int,
    steps: tuple[int, int] | None = None,
    forced: bool = False,
    made_of: Iterable[str] = (),
) -> Delta:
    """Write a delta's files and its manifest into an existing, empty folder; each table's pieces come by row.

    Args:
        first, last, steps, forced, made_of: as `Delta` has them. Rows of a single number are given that.

    Raises:
        InputError: a piece that is not as a delta must be.
    """
    tables: dict[str, Stored] = {}
    ends: dict[str, int] = {}
    bases: set[str] = set()
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for piece in pieces:
            name, n = piece.table, len(piece.rows)
            if first == last and not steps:
                piece = piece.numbered(first)
            table = to_table(piece)
            if name not in writers:
                writers[name] = stack.enter_context(_writer(folder / f"{name}.parquet", table.schema))
                stored = Stored(0, piece.vectors.shape[1], str(piece.ids.type), piece.audience)
                tables[name], ends[name] = stored, -1
            if piece.audience != tables[name].audience:
                raise InputError(f"{folder.name}: {name}: rows for {tables[name].audience} and for {piece.audience}")
            used = set(pc.unique(piece.bases).to_pylist())
            from_table(f"{folder.name}: {name}", name, table, used)
            if n and int(piece.rows[0]) <= ends[name]:
                raise InputError(f"{folder.name}: {name}: expected rows in order, found {int(piece.rows[0])} late")
            writers[name].write_table(table, row_group_size=ROWS)
            tables[name] = replace(tables[name], rows=tables[name].rows + n)
            ends[name] = int(piece.rows[-1]) if n else ends[name]
            bases |= used
    files = {}
    for name in tables:
        path = folder / f"{name}.parquet"
        sync(path)
        files[path.name] = manifest.stamp(path)
    told = {"first": first, "last": last, "steps": steps, "bases": sorted(bases), "forced": forced}
    told["made_of"] = sorted(set(made_of))
    manifest.write(folder, FORMAT, files, **told, tables={name: asdict(each) for name, each in tables.items()})
    return read(folder)


def read(folder: Path) -> Delta:
    """Open a delta, every byte of it checked.

    Raises:
        InputError: the first file that is missing, damaged or not what it should be.
    """
    return parse(folder, manifest.verify(folder, FORMAT))


def parse(folder: Path, told: dict) -> Delta:
    """A delta from its manifest.

    Raises:
        InputError: the manifest does not say what a delta's must.
    """
    where = folder / manifest.NAME
    try:
        tables = {name: Stored(**each) for name, each in told["tables"].items()}
        bases = tuple(Version.parse(base) for base in told["bases"])
        steps = None if told["steps"] is None else (told["steps"][0], told["steps"][1])
        numbers = [told["first"], told["last"], *(steps or ()), *(n for s in tables.values() for n in (s.rows, s.dim))]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("expected whole numbers")
        if any(stored.dim > WIDEST for stored in tables.values()):
            raise ValueError(f"expected vectors of at most {WIDEST} numbers")
        if any(stored.audience not in get_args(Audience) for stored in tables.values()):
            raise ValueError(f"expected an audience of {', '.join(get_args(Audience))}")
        if told["first"] > told["last"] + 1 or {f"{name}.parquet" for name in tables} != set(told["files"]):
            raise ValueError("its parts do not fit together")
        forced, made_of = told["forced"], tuple(told["made_of"])
        if type(forced) is not bool or any(type(each) is not str for each in made_of):
            raise ValueError("expected forced and made_of")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{where}: not a delta's manifest: {error!r}") from None
    # What the files hold, and not where in a log they are.
    digest = hashlib.sha256(json.dumps(told["files"], sort_keys=True).encode()).hexdigest()
    return Delta(folder, told["first"], told["last"], steps, bases, tables, forced, made_of, digest)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Of ids, rows and weights a dictionary would only grow the file: they are distinct, or nearly so.
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["table", "source", "base_version"])


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None


def _check_groups(path: Path, file: pq.ParquetFile, told: Stored) -> None:
    """Before any row is decoded: its columns, and no more rows than said."""
    for field in schema_of(told.dim, _id_type(path, told.id_type)):
        found = file.schema_arrow.field(field.name) if field.name in file.schema_arrow.names else None
        if found is None or found.type != field.type:
            raise InputError(
                f"{path}: column {field.name}: expected {field.type}, found {found.type if found else 'none'}"
            )
    if file.metadata.num_rows != told.rows:
        raise InputError(f"{path}: expected {told.rows} rows, found {file.metadata.num_rows}")
    for k in range(file.num_row_groups):
        if file.metadata.row_group(k).num_rows > ROWS:
            raise InputError(f"{path}: row group {k}: expected at most {ROWS} rows")


def _id_type(path: Path, name: str) -> pa.DataType:
    for kind in (pa.string(), pa.int64()):
        if str(kind) == name:
            return kind
    raise InputError(f"{path}: expected ids of type string or int64, found {name}")


def _require_numbers(where: str, piece: Piece, delta: "Delta") -> None:
    low, high = (0, 0) if delta.first > delta.last or delta.steps else (delta.first, delta.last)
    wrong = (piece.numbers < low) | (piece.numbers > high)
    if wrong.any():
        row, found = int(piece.rows[wrong][0]), int(piece.numbers[wrong][0])
        raise InputError(f"{where}: column delta: row {row}: expected {low} to {high}, found {found}")


def _group(path: Path, file: pq.ParquetFile, k: int, columns: list[str] | None = None) -> pa.Table:
    try:
        return file.read_row_group(k, columns=columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: row group {k}: cannot be read: {error}") from None
