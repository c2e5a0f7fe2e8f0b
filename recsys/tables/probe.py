"""Rows that try every way in which a row can be unusual, and what the trained model gives for any rows.

Two paths must agree before a bundle leaves: the one that trained (this project's encoder and batches, torchrec's
collections, fbgemm's operators) and the one that serves (`recsys.tables.bundle`). The trained one is here: the ranker
itself with its tables cut to the rows that are asked for, so that a table of any size is checked in little memory. Both
have their numbers from the checkpoint by `recsys.tables.stored`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys.config import Config
from recsys.data.batch import Batch, Batcher
from recsys.data.encode import ITEM, USER, Encoder, TableSpec
from recsys.data.feedback_rows import read_columns
from recsys.data.pieces import row_groups
from recsys.data.schema import split_files
from recsys.data.side import decoded, read_side
from recsys.evaluate.held_out import held_out
from recsys.model.ranker import DenseArch, Ranker
from recsys.storage import at
from recsys.tables import checkpoint
from recsys.tables.parts import Table, Vectors
from recsys.tables.sharding import table_of
from recsys.tables.stored import StoredTensor
from recsys.tables.version import Version

BATCH = 4096
"""Rows that the trained model scores at a time."""
PLAIN, VARIED = 64, 4
"""Probe rows taken as they are, and rows of each variation."""


def raw_rows(config: Config, encoder: Encoder, split: str, rows: int) -> Iterator[pa.Table]:
    """At least `rows` rows of a split (or all), in evenly spaced row groups, with all features as columns and `label`.

    A row group at a time; `rows` may be passed by a part of one.
    """
    root = at(config.data.path)
    groups = row_groups(split_files(root, split))
    wanted = max(1, min(len(groups), -(-rows * len(groups) // max(sum(piece.rows for piece in groups), 1))))
    sides = [
        (key, read_side(root / f"{owner}s.parquet", key, features))
        for owner, key in (("user", USER), ("item", ITEM))
        if (features := [f for f in config.features if f.of == owner and f.name != key])
    ]
    for k in range(wanted if groups else 0):
        piece = groups[k * len(groups) // wanted]
        table = read_columns(piece, encoder.columns())
        table = pa.table([decoded(column) for column in table], names=table.column_names)
        for key, side in sides:
            table = _join(table, side, key)
        yield table


def probe(config: Config, encoder: Encoder) -> pa.Table:
    """Some rows as they are, then each variation of a few of them: unknown and missing ids, new items, an empty and a
    full history, and every column missing once."""
    plain = pa.concat_tables(
        rows for split in ("test", "valid", "train") for rows in raw_rows(config, encoder, split, PLAIN)
    ).combine_chunks()
    plain = plain.take(pa.array(np.linspace(0, plain.num_rows - 1, min(PLAIN, plain.num_rows)).astype(int)))
    some = plain[:VARIED]
    varied = [plain]
    for key in (USER, ITEM):
        if key in plain.column_names:
            varied.append(
                _with(some, key, _stranger(encoder.maps[key].ids if key in encoder.maps else None, some[key]))
            )
    root = at(config.data.path)
    kind = encoder.maps[ITEM].ids.type
    new = pa.chunked_array([ids for table in held_out(root, kind) for ids in table["item_id"].chunks], kind)
    if len(new):
        features = [f for f in config.features if f.of == "item" and f.name != ITEM]
        items: pa.Table = read_side(root / "items.parquet", ITEM, features)
        ids = new.take(pa.array(np.arange(len(some)) % len(new))).cast(some[ITEM].type)
        varied.append(_join(_with(some.drop_columns([f.name for f in features]), ITEM, ids), items, ITEM))
    if config.model.history:
        varied += list(_histories(config, encoder, some))
    alone = [name for name in plain.column_names if name not in ("label", "history", "history_label")]
    varied += [_with(some, name, pa.nulls(len(some))) for name in alone]
    return pa.concat_tables([table.select(plain.column_names) for table in varied]).combine_chunks()


def _histories(config: Config, encoder: Encoder, some: pa.Table) -> Iterator[pa.Table]:
    """The rows with no history, an empty one, and one of the greatest length, of known items and one unknown."""
    ids, longest = encoder.maps[ITEM].ids, config.data.history
    places = np.arange(len(some) * longest) % max(len(ids), 1)
    full = ids.take(pa.array(places)).to_pylist()
    strange = _stranger(ids, some[ITEM])[0].as_py()
    lists = [[strange, *full[k * longest + 1 : (k + 1) * longest]] for k in range(len(some))]
    cases: list[list[Any]] = [[None for _ in lists], [[] for _ in lists], lists]
    for items in cases:
        labels = [None if row is None else [k % 2 for k in range(len(row))] for row in items]
        yield _with(_with(some, "history", pa.array(items)), "history_label", pa.array(labels))


def _stranger(known: pa.Array | None, column: pa.ChunkedArray) -> pa.Array:
    """[n] an id that no row of the table belongs to."""
    if pa.types.is_integer(column.type):
        least = pc.min(known).as_py() if known is not None and len(known) else 0
        return pa.array([min(least, 0) - 1] * len(column), column.type)
    return pa.array(["\x7fno such id"] * len(column), column.type)


def _with(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, column)
    kind = table.schema.field(name).type
    return table.set_column(table.column_names.index(name), pa.field(name, kind), column.cast(kind))


def _join(table: pa.Table, side: pa.Table, key: str) -> pa.Table:
    """The columns of `side` beside each row, by `key`; null where it has no such id."""
    ids = side[key].cast(table.schema.field(key).type).combine_chunks()
    place = pc.index_in(table[key], ids)
    for name in side.column_names:
        if name != key:
            table = table.append_column(name, side[name].take(place))
    return table


@dataclass(frozen=True, eq=False)
class Prompted:
    """A prompt network beside the ranker, for a bundle: e_final of each item, by which its last layer is corrected."""

    folder: Path
    """Of the network, whose deltas the bundle is to follow."""
    version: Version
    """Of the network."""
    table: Table
    vectors: Vectors


class Trained:
    """The run's ranker at a checkpoint, on rows that carry their features: [n] probabilities."""

    def __init__(
        self,
        config: Config,
        encoder: Encoder,
        source: Path,
        tables: list[Table],
        prompted: Prompted | None = None,
    ) -> None:
        self.config, self.encoder, self.prompted = config, encoder, prompted
        self.stored = {table.name: StoredTensor(source, table.tensor) for table in tables}
        self.dense = _dense_state(source)

    def dense_arch(self) -> DenseArch:
        """The dense part alone, with the trained weights, in float32."""
        arch = DenseArch(self.encoder.spec, self.config.model)
        arch.load_state_dict(self.dense)
        return arch.eval()

    def score(self, table: pa.Table) -> Tensor:
        """[n] float32 probabilities."""
        return torch.cat([self._score(table[k : k + BATCH]) for k in range(0, len(table), BATCH)])

    def _score(self, table: pa.Table) -> Tensor:
        own, block = self.encoder.joined(table)
        batch = Batcher(own, len(block)).cut(block)
        ranker, batch = self._cut(own, batch)
        with torch.inference_mode():
            logit_B, hidden_BH = ranker.represent(batch)
            if self.prompted:
                rows = torch.from_numpy(self.prompted.table.ids.rows(table[ITEM]))
                logit_B = logit_B + (hidden_BH * self.prompted.vectors.take(rows)).sum(dim=1)
            return logit_B.sigmoid()

    def _cut(self, encoder: Encoder, batch: Batch) -> tuple[Ranker, Batch]:
        """The ranker with the rows that the batch names, and the batch that names them by their new places."""
        sparse, rows = _renumbered(batch.sparse, dict(zip(batch.sparse.keys(), batch.sparse.keys(), strict=True)))
        items, item_rows = _renumbered(batch.items, dict.fromkeys(batch.items.keys(), ITEM))
        contents, content_rows = _renumbered(batch.content, {name: name for name in batch.content.keys()})  # noqa: SIM118
        rows |= item_rows | content_rows
        spec = encoder.spec

        def cut(table: TableSpec) -> TableSpec:
            return replace(table, capacity=len(rows[table.name]))

        single, multi, content = ([cut(t) for t in tables] for tables in (spec.single, spec.multi, spec.content))
        spec = replace(spec, item=cut(spec.item), single=single, multi=multi, content=content)
        ranker = Ranker(spec, self.config.model)
        tables = {"dense_arch." + name: tensor for name, tensor in self.dense.items()}
        for name in ranker.state_dict():
            if name not in tables:
                table = table_of(name) or ""
                tables[name] = self.stored[table].take(rows[table])
        ranker.load_state_dict(tables)
        return ranker.eval(), replace(batch, sparse=sparse, items=items, content=contents)


def _renumbered(kjt: KeyedJaggedTensor, table_of: dict[str, str]) -> tuple[KeyedJaggedTensor, dict[str, Tensor]]:
    """Values numbered by their place among a table's distinct rows, which come beside; row 0 is always one."""
    values = {key: jagged.values() for key, jagged in kjt.to_dict().items()}
    rows: dict[str, Tensor] = {}
    for name in dict.fromkeys(table_of.values()):
        of_table = [values[key] for key in values if table_of[key] == name]
        rows[name] = torch.cat([torch.zeros(1, dtype=torch.int64), *of_table]).unique()
    places = [torch.searchsorted(rows[table_of[key]], values[key]) for key in values]
    every = torch.cat([kjt.values()[:0], *places])  # of no keys there are none
    return KeyedJaggedTensor(keys=kjt.keys(), values=every, lengths=kjt.lengths()), rows


def _dense_state(source: Path) -> dict[str, Tensor]:
    """The dense part's parameters, by their names in `DenseArch`."""
    prefix = "ranker.dense_arch."
    names = [name for name in checkpoint.stored_tensors(source) if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensor for name, tensor in checkpoint.read(source, names).items()}
