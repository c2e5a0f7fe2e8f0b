"""A run's tables as files: which there are, and their rows in parts of Parquet and safetensors.

    parquet/<table>/part-00000.parquet              id, row, vector; 8-bit tables: id, row, vector, scale, offset
    safetensors/<table>/part-00000.safetensors      the same vectors as `vector` [n, D] (and `scale`, `offset` [n])

Parts hold the rows 0 to the last that an id owns, in order; free rows are left out. Row 0 stands for every unknown id:
its `id` is null. Row r of a table lies at position r - start of the part that spans it. The bytes depend on the stored
values alone, not on their sharding nor on the ranks that write them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import Tensor

from recsys.data.ids import IdMap
from recsys.errors import InputError
from recsys.files import sync
from recsys.tables import checkpoint
from recsys.tables.sharding import table_of
from recsys.tables.vectors import quantise


class Vectors(Protocol):
    """A table's vectors [rows, dim], which lie somewhere (`StoredTensor`) or are made as they are asked for."""

    @property
    def dim(self) -> int: ...

    def check(self, rows: range) -> None: ...

    def read(self, rows: range) -> Tensor: ...

    def take(self, rows: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Table:
    """One table to export: `tensor` is its name in the checkpoint, [capacity, dim]; rows 0 to `rows` are written."""

    name: str
    tensor: str
    ids: IdMap
    dim: int

    @property
    def rows(self) -> int:
        """Rows in use: the unknown row and one for each id."""
        return len(self.ids.ids) + 1

    def parts(self, part_rows: int) -> list[range]:
        """The rows of each part."""
        return [range(start, min(start + part_rows, self.rows)) for start in range(0, self.rows, part_rows)]

    def describe(self, part_rows: int) -> dict[str, object]:
        """What the manifest tells of the table."""
        kinds = ("parquet", "safetensors")
        return {
            "rows": self.rows,
            "capacity": self.ids.capacity,
            "dim": self.dim,
            "id_type": str(self.ids.ids.type),
            "parts": [
                {"start": rows.start, "stop": rows.stop, **{kind: _path(kind, self, k) for kind in kinds}}
                for k, rows in enumerate(self.parts(part_rows))
            ],
        }


def tables_of(run: Path, source: Path) -> list[Table]:
    """The tables in the checkpoint `source` with the run's id maps, by name.

    Raises:
        InputError: a table without an id map, or of another capacity than its map.
    """
    tables = []
    for tensor, shape in checkpoint.stored_tensors(source).items():
        if name := table_of(tensor):
            ids = IdMap.load(run / "encoder" / f"{name}.parquet")
            if ids.delta != checkpoint.version_of(source).delta:
                raise InputError(
                    f"{source}: holds deltas up to {checkpoint.version_of(source).delta}, its id map {name} up to "
                    f"{ids.delta}: run tools.delta with --catch-up"
                )
            if ids.capacity != shape[0]:
                raise InputError(
                    f"{source}: checkpoint of another model: table {name} has {shape[0]} rows, the id map in "
                    f"{run / 'encoder'} is for {ids.capacity}"
                )
            tables.append(Table(name, tensor, ids, shape[1]))
    return sorted(tables, key=lambda table: table.name)


def write(
    table: Table, stored: Vectors, folder: Path, place: int, places: int, part_rows: int, int8: bool
) -> Iterator[Path]:
    """Write the `place`-th of `places` shares of a table's parts; one part is in memory at a time. Yields each file.

    Raises:
        InputError: the checkpoint cannot be read, or is damaged.
    """
    parts = table.parts(part_rows)
    mine = range(place * len(parts) // places, (place + 1) * len(parts) // places)
    if not mine:
        return
    stored.check(range(parts[mine.start].start, parts[mine.stop - 1].stop))
    for k in mine:
        vectors = stored.read(parts[k]).float()
        tensors = quantise(vectors) if int8 else {"vector": vectors}
        for kind, save in (("parquet", _parquet), ("safetensors", _safetensors)):
            path = folder / _path(kind, table, k)
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, table, parts[k], tensors)
            sync(path)
            yield path


def _path(kind: str, table: Table, k: int) -> str:
    return f"{kind}/{table.name}/part-{k:05d}.{kind}"


def _parquet(path: Path, table: Table, rows: range, tensors: dict[str, Tensor]) -> None:
    kind = table.ids.ids.type
    unknown = [pa.nulls(1, kind)] if rows.start == 0 else []
    owned = table.ids.ids.slice(max(rows.start - 1, 0), rows.stop - max(rows.start, 1))
    columns = {"id": pa.concat_arrays([*unknown, owned]), "row": pa.array(range(rows.start, rows.stop), pa.int64())}
    for name, tensor in tensors.items():
        flat = pa.array(tensor.numpy().reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, table.dim) if tensor.ndim == 2 else flat
    schema = pa.schema([pa.field(name, column.type, nullable=name == "id") for name, column in columns.items()])
    # A dictionary would only grow it: ids are distinct and weights nearly so.
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd", use_dictionary=False)


def _safetensors(path: Path, table: Table, rows: range, tensors: dict[str, Tensor]) -> None:
    # One key of metadata: safetensors writes several in random order, and the bytes must not depend on that.
    save_file(tensors, path, metadata={"rows": f"{table.name}[{rows.start}:{rows.stop}]"})
