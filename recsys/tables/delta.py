"""A delta: rows of tables that travel, as one folder of Parquet under a manifest.

    manifest.json        its place in the run's log, the versions it was made for, its tables, a checksum of every file
    <table>.parquet      table, item_id, row, vector, state, source, base_version; by row, each row once

Trainer, checkpoint and serving bundle apply the same folder (`recsys.tables.live`, `.patch`, `.overlay`). `state` is
what row-wise Adagrad keeps of the row, 0 as of an untrained one; `item_id` owns the row, null leaves it to nobody (row
0 is always nobody's); `source` says what made the vector; `base_version` is lineage/dense/step of the tables it was
made for. Pieces of at most `ROWS` rows are in memory at a time. Needs torch and pyarrow alone.

Legend: n rows of a piece, D table width.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.files import sync
from recsys.tables import manifest
from recsys.tables.version import Version

FORMAT = manifest.Format("thawrec-delta", 1, "not a whole delta")
ROWS = 65536
"""Most rows of a piece, and of a Parquet row group."""

_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one table.

    Attributes:
        rows: [n] int64, rising; ids: [n] of the table's id type; vectors: [n, D] float32; state: [n] float32.
        sources, bases: [n] dictionary of string.
    """

    table: str
    rows: Tensor
    ids: pa.Array
    vectors: Tensor
    state: Tensor
    sources: pa.Array
    bases: pa.Array

    @classmethod
    def of(
        cls,
        table: str,
        rows: Tensor,
        ids: pa.Array,
        vectors: Tensor,
        source: str,
        base: Version,
        state: Tensor | None = None,
    ) -> "Piece":
        """Rows of one source, made for one version; without a `state` they are as untrained."""
        n = len(rows)
        state = torch.zeros(n) if state is None else state
        return cls(table, rows, ids, vectors, state, _constant(source, n), _constant(base.base, n))

    def take(self, places: Tensor) -> "Piece":
        """The rows at `places` [m] int64."""
        chosen = arrow(places)
        ids, sources, bases = (each.take(chosen) for each in (self.ids, self.sources, self.bases))
        return Piece(self.table, self.rows[places], ids, self.vectors[places], self.state[places], sources, bases)


@dataclass(frozen=True)
class Stored:
    """The part of a delta that is of one table: `rows` rows of width `dim`, ids of type `id_type`."""

    rows: int
    dim: int
    id_type: str


@dataclass(frozen=True)
class Delta:
    """A delta on disk.

    Attributes:
        first, last: the deltas of the run's log that it stands for; first = last + 1 where it is of none.
        steps: of a difference between two states of training, the steps of both; None: its rows come from outside.
        bases: the versions that its rows were made for.
    """

    folder: Path
    first: int
    last: int
    steps: tuple[int, int] | None
    bases: tuple[Version, ...]
    tables: dict[str, Stored]

    @property
    def rows(self) -> int:
        """Rows of all its tables."""
        return sum(stored.rows for stored in self.tables.values())

    def pieces(self, table: str, place: int = 0, places: int = 1) -> Iterator[Piece]:
        """The `place`-th of `places` shares of a table's pieces, in order of rows.

        Raises:
            InputError: a piece that is not as a delta must be, with its file, row group and column.
        """
        path = self.folder / f"{table}.parquet"
        known = {base.base for base in self.bases}
        with _opened(path) as file:
            _check_groups(path, file, self.tables[table])
            for k in range(place, file.num_row_groups, places):
                yield _piece(f"{path}: row group {k}", table, _group(path, file, k), known)

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
                    rows = _tensor(f"{path}: row group {k}", _group(path, file, k, ["row"]), "row")
                    if len(rows) and int(rows[0]) <= last:
                        raise InputError(f"{path}: row group {k}: column row: expected more than {last}, the last one")
                    last = int(rows[-1]) if len(rows) else last
            for piece in self.pieces(table, place, places):
                look(piece)


def write(folder: Path, pieces: Iterable[Piece], first: int, last: int, steps: tuple[int, int] | None = None) -> Delta:
    """Write a delta's files and its manifest into an existing, empty folder; each table's pieces come by row.

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
            table = _table(piece)
            if name not in writers:
                writers[name] = stack.enter_context(_writer(folder / f"{name}.parquet", table.schema))
                tables[name], ends[name] = Stored(0, piece.vectors.shape[1], str(piece.ids.type)), -1
            used = set(pc.unique(piece.bases).to_pylist())
            _piece(f"{folder.name}: {name}", name, table, used)
            if n and int(piece.rows[0]) <= ends[name]:
                raise InputError(f"{folder.name}: {name}: expected rows in order, found {int(piece.rows[0])} late")
            writers[name].write_table(table, row_group_size=ROWS)
            tables[name] = Stored(tables[name].rows + n, tables[name].dim, tables[name].id_type)
            ends[name] = int(piece.rows[-1]) if n else ends[name]
            bases |= used
    files = {}
    for name in tables:
        path = folder / f"{name}.parquet"
        sync(path)
        files[path.name] = manifest.stamp(path)
    told = {"first": first, "last": last, "steps": steps, "bases": sorted(bases)}
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
        if told["first"] > told["last"] + 1 or {f"{name}.parquet" for name in tables} != set(told["files"]):
            raise ValueError("its parts do not fit together")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{where}: not a delta's manifest: {error!r}") from None
    return Delta(folder, told["first"], told["last"], steps, bases, tables)


def arrow(tensor: Tensor) -> pa.Array:
    """A 1-D tensor of float32 or int64 as Arrow, in the same memory where it is contiguous; NumPy is not needed."""
    tensor = tensor.detach().contiguous()
    kind = {torch.float32: pa.float32(), torch.int64: pa.int64()}[tensor.dtype]
    memory = pa.foreign_buffer(tensor.data_ptr(), tensor.numel() * tensor.element_size(), base=tensor)
    return pa.Array.from_buffers(kind, len(tensor), [None, memory])


def _constant(text: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([text]))


def _schema(dim: int, id_type: pa.DataType) -> pa.Schema:
    kinds = {
        "table": _TEXT,
        "item_id": id_type,
        "row": pa.int64(),
        "vector": pa.list_(pa.float32(), dim),
        "state": pa.float32(),
        "source": _TEXT,
        "base_version": _TEXT,
    }
    return pa.schema([pa.field(name, kind, nullable=name == "item_id") for name, kind in kinds.items()])


def _table(piece: Piece) -> pa.Table:
    n, dim = piece.vectors.shape
    vectors = pa.FixedSizeListArray.from_arrays(arrow(piece.vectors.reshape(-1)), dim)
    columns = [
        _constant(piece.table, n),
        piece.ids,
        arrow(piece.rows),
        vectors,
        arrow(piece.state),
        piece.sources,
        piece.bases,
    ]
    return pa.Table.from_arrays(columns, schema=_schema(dim, piece.ids.type))


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Of ids, rows and weights a dictionary would only grow the file: they are distinct, or nearly so.
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["table", "source", "base_version"])


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None


def _check_groups(path: Path, file: pq.ParquetFile, told: Stored) -> None:
    """Before any row is decoded: its columns, and no more rows than said."""
    for field in _schema(told.dim, _id_type(path, told.id_type)):
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


def _piece(where: str, name: str, table: pa.Table, known: Set[str]) -> Piece:
    """The rows of one row group, looked at."""
    for field in table.schema:
        if field.name != "item_id":
            _require_full(where, table, field.name)
    named = {key: set(pc.unique(table[key].combine_chunks()).to_pylist()) for key in ("table", "base_version")}
    if named["table"] - {name}:
        raise InputError(f"{where}: column table: expected {name}")
    if strange := named["base_version"] - known:
        raise InputError(f"{where}: column base_version: {sorted(strange)[0]!r} is not in the manifest")
    flat = table["vector"].combine_chunks().flatten()
    if flat.null_count:
        raise InputError(f"{where}: column vector: expected no null")
    vectors = torch.from_dlpack(flat).view(table.num_rows, -1) if table.num_rows else torch.zeros(0, 0)
    rows, state = (_tensor(where, table, key) for key in ("row", "state"))
    ids, sources, bases = (table[key].combine_chunks() for key in ("item_id", "source", "base_version"))
    if (rows[1:] <= rows[:-1]).any() or (rows[:1] < 0).any():
        raise InputError(f"{where}: column row: expected rising rows from 0, each once")
    if vectors.numel() and not torch.stack(vectors.aminmax()).isfinite().all():  # what is not finite is an extreme
        wrong = int(rows[~vectors.isfinite().all(1)][0])
        raise InputError(f"{where}: column vector: row {wrong}: expected finite numbers")
    if not (state.isfinite() & (state >= 0)).all():
        wrong = int(rows[~(state.isfinite() & (state >= 0))][0])
        raise InputError(f"{where}: column state: row {wrong}: expected a finite number, 0 or more")
    if len(rows) and rows[0] == 0 and ids[0].is_valid:
        raise InputError(f"{where}: column item_id: {ids[0]} owns row 0, which is nobody's")
    return Piece(name, rows, ids, vectors, state, sources, bases)


def _require_full(where: str, table: pa.Table, key: str) -> None:
    if table[key].null_count:
        raise InputError(f"{where}: column {key}: expected no null")


def _tensor(where: str, table: pa.Table, key: str) -> Tensor:
    _require_full(where, table, key)
    return torch.from_dlpack(table[key].combine_chunks())


def _group(path: Path, file: pq.ParquetFile, k: int, columns: list[str] | None = None) -> pa.Table:
    try:
        return file.read_row_group(k, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: row group {k}: cannot be read: {error}") from None
