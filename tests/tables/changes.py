"""Deltas and dictionaries of rows for the tests of what takes them."""

from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from recsys.tables import delta
from recsys.tables.delta import Delta
from recsys.tables.piece import Piece
from recsys.tables.version import Version

Table = dict[int, tuple[str | None, Tensor, float]]
"""Rows of a table: owner, vector and optimizer state."""

VERSION = Version("lineage", "dense", 7)


def piece(table: str, rows: Table, base: Version = VERSION, source: str = "test", dim: int = 8) -> Piece:
    """The rows of a dictionary as a piece."""
    order = sorted(rows)
    ids = pa.array([rows[row][0] for row in order], pa.string())
    vectors = torch.stack([rows[row][1] for row in order]) if order else torch.zeros(0, dim)
    state = torch.tensor([rows[row][2] for row in order])
    return Piece.of(table, torch.tensor(order, dtype=torch.int64), ids, vectors, source, base, state)


def rows_of(each: Delta, table: str) -> Table:
    """The rows of a delta as a dictionary."""
    found: Table = {}
    for part in each.pieces(table):
        named = zip(part.rows.tolist(), part.ids.to_pylist(), part.vectors, part.state.tolist(), strict=True)
        found |= {row: (owner, vector, state) for row, owner, vector, state in named}
    return found


def same(a: Table, b: Table) -> bool:
    """Whether two dictionaries hold the same rows, to the bit."""
    return a.keys() == b.keys() and all(
        a[row][0] == b[row][0] and torch.equal(a[row][1], b[row][1]) and a[row][2] == b[row][2] for row in a
    )


def at_random(seed: int, rows: list[int], dim: int = 8, owned: bool = True) -> Table:
    """Vectors and states drawn for some rows; row 0 is nobody's."""
    torch.manual_seed(seed)
    return {row: (f"new {row}" if row and owned else None, torch.randn(dim), float(torch.rand(()))) for row in rows}


def written(folder: Path, tables: dict[str, Table], number: int = 1, base: Version = VERSION, dim: int = 8) -> Delta:
    """A delta of these rows in a new folder."""
    folder.mkdir(parents=True)
    pieces = [piece(name, rows, base, dim=dim) for name, rows in tables.items()]
    return delta.write(folder, pieces, number, number)
