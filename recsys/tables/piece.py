"""Rows of one table on their way: as tensors and Arrow, in a form that every consumer can believe.

Legend: n rows, D table width. Needs torch and pyarrow alone.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.tables.version import Version

Audience = Literal["training", "serving", "both"]
"""Who takes rows: checkpoints, id maps and live models; bundles; all of these."""

_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one table.

    Attributes:
        rows: [n] int64, rising; ids: [n] of the table's id type; vectors: [n, D] float32; state: [n] float32.
        sources, bases: [n] dictionary of string.
        numbers: [n] int64, 0 where the delta has no place in a log.
        audience: of all rows that a delta has of the table.
    """

    table: str
    rows: Tensor
    ids: pa.Array
    vectors: Tensor
    state: Tensor
    sources: pa.Array
    bases: pa.Array
    numbers: Tensor
    audience: Audience = "both"

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
        audience: Audience = "both",
    ) -> "Piece":
        """Rows of one source, made for one version; without a `state` they are as untrained."""
        n = len(rows)
        state = torch.zeros(n) if state is None else state
        texts = _constant(source, n), _constant(base.base, n)
        return cls(table, rows, ids, vectors, state, *texts, torch.zeros(n, dtype=torch.int64), audience)

    def take(self, places: Tensor) -> "Piece":
        """The rows at `places` [m] int64."""
        chosen = arrow(places)
        ids, sources, bases = (each.take(chosen) for each in (self.ids, self.sources, self.bases))
        rows, vectors, state = self.rows[places], self.vectors[places], self.state[places]
        return Piece(self.table, rows, ids, vectors, state, sources, bases, self.numbers[places], self.audience)

    def numbered(self, number: int) -> "Piece":
        """The same rows as those of the delta with this number."""
        return replace(self, numbers=torch.full_like(self.rows, number))


def schema_of(dim: int, id_type: pa.DataType) -> pa.Schema:
    """Of the Parquet file of a table of width `dim`."""
    kinds = {
        "table": _TEXT,
        "item_id": id_type,
        "row": pa.int64(),
        "vector": pa.list_(pa.float32(), dim),
        "state": pa.float32(),
        "source": _TEXT,
        "base_version": _TEXT,
        "delta": pa.int64(),
    }
    return pa.schema([pa.field(name, kind, nullable=name == "item_id") for name, kind in kinds.items()])


def to_table(piece: Piece) -> pa.Table:
    """The rows of a piece, [n], as they are written."""
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
        arrow(piece.numbers),
    ]
    return pa.Table.from_arrays(columns, schema=schema_of(dim, piece.ids.type))


def from_table(where: str, name: str, table: pa.Table, known: Set[str]) -> Piece:
    """The rows of one row group, looked at.

    Args:
        where: what is named in messages. name: the table. known: the base versions that there may be.

    Raises:
        InputError: a value that no table could take, with its column.
    """
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
    rows, state = (column(where, table, key) for key in ("row", "state"))
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
    return Piece(name, rows, ids, vectors, state, sources, bases, column(where, table, "delta"))


def _require_full(where: str, table: pa.Table, key: str) -> None:
    if table[key].null_count:
        raise InputError(f"{where}: column {key}: expected no null")


def column(where: str, table: pa.Table, key: str) -> Tensor:
    """[n] a numeric column.

    Raises:
        InputError: it holds a null.
    """
    _require_full(where, table, key)
    return torch.from_dlpack(table[key].combine_chunks())


def arrow(tensor: Tensor) -> pa.Array:
    """A 1-D tensor of float32 or int64 as Arrow, in the same memory where it is contiguous; NumPy is not needed."""
    tensor = tensor.detach().contiguous()
    kind = {torch.float32: pa.float32(), torch.int64: pa.int64()}[tensor.dtype]
    memory = pa.foreign_buffer(tensor.data_ptr(), tensor.numel() * tensor.element_size(), base=tensor)
    return pa.Array.from_buffers(kind, len(tensor), [None, memory])


def _constant(text: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([text]))
