"""Score from an exported bundle with torch and pyarrow alone: no torchrec, fbgemm, NumPy or pandas.

    bundle = Bundle.load("runs/movielens-1m/export")
    bundle.check()                                  # its own probe rows still score as they did when it was made
    bundle.score(table)                             # [n] float32 probabilities of an Arrow table of raw columns

A row names everything that the ranker reads: `user_id`, `item_id`, `history` (item ids, oldest first, the newest of
which are read where there are too many), `history_label` and the feature columns. A null is a missing value, an id or
category without a row is the unknown one.

It needs pyarrow 24 and the torch that wrote it, or one that reads its programs; the manifest names both.

Legend: B rows, D embedding width, L history length, T values of a list column.
"""

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from recsys.errors import InputError
from recsys.tables import manifest, overlay
from recsys.tables.lookup import IdLookup
from recsys.tables.program import PROGRAM, load_program
from recsys.tables.vectors import TableVectors

EXPORT = manifest.Format("thawrec-export", 3, "not a whole export; tools.export makes one")
PROBE = "probe.parquet"
BATCH = 4096
"""Rows scored at a time."""


class Vectors(Protocol):
    """A table's vectors [rows, dim]."""

    @property
    def dim(self) -> int: ...

    def take(self, rows: Tensor) -> Tensor: ...


class Bundle:
    """A loaded export.

    Attributes:
        told: the manifest.
        probe: rows as they must be, with the types of every column, and what they must score as `score`.
        ids, vectors: by table name.
    """

    def __init__(self, folder: Path, told: dict[str, Any], mapped: bool) -> None:
        self.folder, self.told, self.inputs = folder, told, told["inputs"]
        self.ids: dict[str, IdLookup] = {}
        self.vectors: dict[str, Vectors] = {}
        if told["probe"] not in told["files"]:
            raise InputError(f"{folder / manifest.NAME}: the probe {told['probe']} is not among its files")
        deltas = overlay.held(folder, told)
        for name, table in told["tables"].items():
            for path in (part[kind] for part in table["parts"] for kind in ("parquet", "safetensors")):
                if path not in told["files"]:
                    raise InputError(f"{folder / manifest.NAME}: table {name}: {path} is not among its files")
            columns = [_read(folder / part["parquet"], ["id"])["id"] for part in table["parts"]]
            ids = pa.chunked_array([chunk for column in columns for chunk in column.chunks]).combine_chunks()
            if len(ids) != table["rows"]:
                raise InputError(f"{folder}: table {name}: expected {table['rows']} ids, found {len(ids)}")
            vectors = TableVectors.load(folder, name, table, mapped)
            ids = overlay.put(deltas, name, table, ids, vectors)
            self.ids[name] = IdLookup(name, ids[1:])  # the first is the unknown row's
            self.vectors[name] = vectors
        self.program = load_program(folder / PROGRAM)
        self.probe = _read(folder / told["probe"])

    @classmethod
    def load(cls, folder: str | Path, verify: bool = True, mapped: bool = False) -> "Bundle":
        """Read a bundle.

        Args:
            verify: check every byte against the manifest first.
            mapped: leave vectors in their files, to be read as they are asked for, instead of in memory.

        Raises:
            InputError: the first file that is missing, damaged or not what it should be.
        """
        folder = Path(folder)
        told = (manifest.verify if verify else manifest.read)(folder, EXPORT)
        bundle = cls(folder, told, mapped)
        if manifest.read(folder, EXPORT) != told:
            raise InputError(
                f"{folder}: another export took its place, or a delta was added, while it was read: load it again"
            )
        return bundle

    @property
    def columns(self) -> list[str]:
        """The columns that a scored table must have."""
        history = ["history", *(["history_label"] if self.inputs["history_labels"] else [])]
        dense = [column["name"] for column in self.inputs["dense"]]
        names = [self.inputs["item"], *self.inputs["single"], *self.inputs["multi"], *dense]
        return list(dict.fromkeys([*names, *(history if self.inputs["history"] else [])]))

    def score(self, table: pa.Table) -> Tensor:
        """[n] float32 probabilities of the table's rows.

        Raises:
            InputError: a column is missing, there twice or of the wrong type.
        """
        for name in self.columns:
            found = table.column_names.count(name)
            if found != 1:
                said = "missing" if not found else "there twice"
                raise InputError(f"column {name!r} is {said}; expected {', '.join(self.columns)}")
        with torch.inference_mode():
            parts = [self.program(*self.tensors(table[k : k + BATCH])) for k in range(0, table.num_rows, BATCH)]
        return torch.cat(parts) if parts else torch.zeros(0)

    def check(self, tolerance: float = 1e-5) -> float:
        """Score the probe rows that came with the bundle; returns the largest difference to what they must score.

        Raises:
            InputError: it is above the tolerance: this machine or this torch computes something else.
        """
        expected = torch.tensor(self.probe["score"].to_pylist(), dtype=torch.float64)
        worst = float((self.score(self.probe).double() - expected).abs().max())
        if not worst <= tolerance:
            raise InputError(f"{self.folder}: a probe row scores {worst:.2g} away from what it must score")
        return worst

    def tensors(self, table: pa.Table) -> tuple[Tensor, ...]:
        """What the program takes, of B rows.

        Raises:
            InputError: as `score`; the columns must be there.
        """
        target = self.inputs["item"]
        content = self._content(table) if self.inputs.get("content") else ()
        if name := self.inputs.get("prompt"):
            content = self.vectors[name].take(self.ids[name].rows(table[target], target)), *content
        # Where the model reads no history the program still takes one, of a single place.
        history = torch.zeros(table.num_rows, 1, self.vectors[target].dim)
        lengths, label = torch.zeros(table.num_rows, dtype=torch.int64), torch.zeros(table.num_rows, 1).long()
        if self.inputs["history"]:
            history, lengths, label = self._history(table)
        return (
            self._dense(table),
            self._pooled(table),
            self.vectors[target].take(self.ids[target].rows(table[target])),
            history,
            lengths,
            label,
            *content,
        )

    def _dense(self, table: pa.Table) -> Tensor:
        """[B, F] float32, standardised; a missing number is the mean, 0."""
        columns = [torch.zeros(table.num_rows, 0)]
        for column in self.inputs["dense"]:
            x = _numbers(table[column["name"]].combine_chunks(), column["name"], pa.float64(), float("nan"))
            if x.isinf().any():
                raise InputError(f"column {column['name']!r}: expected finite numbers, found infinity")
            x = x.sign() * x.abs().log1p() if column["log"] else x
            scaled = (x - column["mean"]) / column["std"]
            columns.append(scaled.nan_to_num(nan=0.0).float().unsqueeze(1))
        return torch.cat(columns, dim=1)

    def _pooled(self, table: pa.Table) -> Tensor:
        """[B, F * D] float32: the vector of each single value, the mean vector of each list (0 if it is empty)."""
        found = [self.vectors[name].take(self.ids[name].rows(table[name])) for name in self.inputs["single"]]
        for name in self.inputs["multi"]:
            values, offsets = _lists(table, name)
            vectors = self.vectors[name].take(self.ids[name].rows(values))
            every = torch.arange(len(vectors))
            found.append(nn.functional.embedding_bag(every, vectors, offsets[:-1], mode="mean"))
        return torch.cat(found, dim=1)

    def _history(self, table: pa.Table) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors [B, L, D] of the newest L items, how many are real [B], and their labels [B, L]."""
        item, longest = self.inputs["item"], self.inputs["history"]
        values, offsets = _lists(table, "history")
        lengths, place, real = _newest(offsets, longest)
        rows_BL = _padded(self.ids[item].rows(values, "history"), place, real)
        label_BL = torch.zeros_like(rows_BL)
        if self.inputs["history_labels"]:
            labels, bounds = _lists(table, "history_label")
            if not torch.equal(bounds, offsets):
                raise InputError("column 'history_label': expected one label for each item of 'history'")
            label_BL = _padded(_numbers(labels, "history_label", pa.int64(), 0), place, real)
            if ((label_BL != 0) & (label_BL != 1)).any():
                raise InputError("column 'history_label': expected 0 or 1")
        vectors = self.vectors[item].take(rows_BL.flatten())
        return vectors.view(table.num_rows, longest, -1), lengths, label_BL

    def _content(self, table: pa.Table) -> tuple[Tensor, ...]:
        """The vectors of the content tables side by side: of targets [B, X], and of histories [B, L, X] where read."""
        names, item = self.inputs["content"], self.inputs["item"]
        target = [self.vectors[name].take(self.ids[name].rows(table[item], item)) for name in names]
        if not self.inputs["history_content"]:
            return (torch.cat(target, dim=1),)
        values, offsets = _lists(table, "history")
        _, place, real = _newest(offsets, self.inputs["history"])
        rows = {name: _padded(self.ids[name].rows(values, "history"), place, real) for name in names}
        history = [self.vectors[name].take(rows_BL.flatten()) for name, rows_BL in rows.items()]
        return torch.cat(target, dim=1), torch.cat(history, dim=1).view(table.num_rows, self.inputs["history"], -1)


def _newest(offsets: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of lists by their offsets [B + 1]: how many items are read [B], where they lie [B, L], which are real [B, L]."""
    lengths = offsets.diff().clamp(max=longest)
    place = (offsets[1:] - lengths).unsqueeze(1) + torch.arange(longest)
    return lengths, place, torch.arange(longest) < lengths.unsqueeze(1)


def _padded(values_T: Tensor, place_BL: Tensor, real_BL: Tensor) -> Tensor:
    """[B, L] the values at `place`, 0 where none is real."""
    values = torch.cat([values_T, values_T.new_zeros(1)])
    return values[place_BL.where(real_BL, len(values_T))]


def _numbers(column: pa.Array, name: str, kind: pa.DataType, missing: float) -> Tensor:
    try:
        # A whole number beyond 2^53 may be rounded; half a label may not.
        column = column.cast(kind, safe=pa.types.is_integer(kind)).fill_null(missing)
    except pa.ArrowException as error:
        raise InputError(f"column {name!r}: expected numbers: {error}") from None
    return torch.from_dlpack(column)


def _lists(table: pa.Table, name: str) -> tuple[pa.Array, Tensor]:
    """A list column as its flat values and [B + 1] int64 offsets; a null list is empty."""
    column = table[name].combine_chunks()
    if pa.types.is_null(column.type):
        return pa.nulls(0), torch.zeros(len(column) + 1, dtype=torch.int64)
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise InputError(f"column {name!r}: expected lists, found {column.type}")
    lengths = torch.from_dlpack(pc.list_value_length(column).fill_null(0).cast(pa.int64()))
    return column.flatten(), nn.functional.pad(lengths.cumsum(0), (1, 0))


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None
