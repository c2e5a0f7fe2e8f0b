"""New items get rows and a vector to start from; items that are gone give theirs back: by deltas, so everywhere.

A new item's vector is that of the unknown row, where training hid ids so that it stands for new items; else the mean of
the warm rows of its categories (of each category the mean, of these the mean), or of all warm rows where none of its
categories is warm (`tables.start`). Its optimizer state is that of an untrained row. Its row is the next that nobody
owns; rows of evicted items come last, and never while a delta of the log names them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.config import Config
from recsys.data.encode import ITEM
from recsys.data.ids import UNKNOWN, IdMap
from recsys.data.parquet import table_of as parquet_table
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.storage import at
from recsys.tables import checkpoint, log, service
from recsys.tables.delta import ROWS, Delta
from recsys.tables.piece import Piece
from recsys.tables.sharding import table_of
from recsys.tables.starts import Starts
from recsys.tables.stored import StoredTensor


@dataclass(frozen=True)
class Admitted:
    """`delta` is None where there was nothing to do; `known` ids had a row before."""

    delta: Delta | None
    known: int

    @property
    def new(self) -> int:
        """Ids that have been given a row."""
        return self.delta.rows if self.delta else 0


def admit(config: Config, path: Path) -> Admitted:
    """Give the items of a Parquet file or folder (item_id, and optionally categories) rows, and register them.

    Idempotent: items that have a row keep it, and its vector.

    Raises:
        InputError: the file, a null id, ids of another type, or more new items than free rows; nothing has changed.
    """
    run = Path(config.run)
    items = _read(path)
    known = 0

    def pieces() -> Iterator[Piece]:
        nonlocal known
        ids = _map(run)
        _require_type(path, items["item_id"], ids)
        strange = ids.rows(items["item_id"]) == UNKNOWN
        known = int((~strange).sum())
        new = items.filter(pa.array(strange))
        if not new.num_rows:
            return
        rows = placed(run, ids, new["item_id"].combine_chunks(), path)
        source = checkpoint.best(run / "checkpoints")
        vectors, base = starts(config, source, ids, new), checkpoint.version_of(source)
        owners = new["item_id"].combine_chunks().cast(ids.ids.type)
        for some in np.split(np.argsort(rows), range(ROWS, len(rows), ROWS)):
            named = torch.from_numpy(rows[some])
            yield Piece.of(ITEM, named, owners.take(pa.array(some)), vectors[some], "admit", base)

    return Admitted(service.publish(run, pieces, stale=config.tables.max_staleness), known)


def evict(config: Config, path: Path) -> Delta | None:
    """Take their rows from the items of a Parquet file or folder (item_id), everywhere; they score as unknown ones.

    Idempotent: an item without a row has none to lose.

    Raises:
        InputError: the file, or an item that a delta of the log names; nothing has changed then.
    """
    run = Path(config.run)
    items = _read(path)["item_id"].combine_chunks()

    def pieces() -> Iterator[Piece]:
        ids = _map(run)
        _require_type(path, items, ids)
        rows = ids.rows(items)
        rows = rows[rows != UNKNOWN]
        if len(live := _named(run, rows)):
            raise InputError(
                f"{path}: item {ids.owners(live[:1])[0]} is named by a delta of {log.folder_of(run)}, which others may "
                "still have to take: once they have, run tools.delta with --retire"
            )
        source = checkpoint.best(run / "checkpoints")
        unknown, base = _weight(source).take(torch.tensor([UNKNOWN])).float(), checkpoint.version_of(source)
        for some in torch.from_numpy(np.sort(rows)).split(ROWS) if len(rows) else ():
            vectors, nobody = unknown.expand(len(some), -1), pa.nulls(len(some), ids.ids.type)
            yield Piece.of(ITEM, some, nobody, vectors, "evict", base)

    return service.publish(run, pieces, evict=True, stale=config.tables.max_staleness)


def placed(run: Path, ids: IdMap, items: pa.Array, path: Path) -> NDArray[np.int64]:
    """[n] rows of the item table for items [n]: that which an item has, else the next that nobody owns.

    ids: the run's id map, which stays as it is. path: where the items come from, for messages.

    Raises:
        InputError: more items without a row than free rows.
    """
    held = _named(run, ids.unowned())
    rows = ids.admit(items, held)[1]
    if (rows == UNKNOWN).any():
        waiting = f", and {len(held)} that wait for tools.delta --retire" if len(held) else ""
        raise InputError(
            f"{path}: {(ids.rows(items) == UNKNOWN).sum()} new items, but table {ITEM} has {ids.free - len(held)} free "
            f"rows of {ids.capacity}{waiting}: evict items, or train anew with a greater item_capacity"
        )
    return rows


def starts(config: Config, source: Path, ids: IdMap, new: pa.Table) -> Tensor:
    """[n, D] float32 vectors for new items to start from, by `tables.start`.

    Args:
        source: the checkpoint that they are made of, with its id map `ids`.
        new: item_id and categories [n].

    Raises:
        InputError: no item is warm.
    """
    start = config.tables.start
    if start == "unknown" or (start == "auto" and config.train.hide_ids > 0):
        return _weight(source).take(torch.full((new.num_rows,), UNKNOWN)).float()
    path = at(config.data.path) / "items.parquet"
    old = parquet_table(path, ["item_id", "categories"])
    rows = ids.rows(decoded(old["item_id"]))
    warm = (rows != UNKNOWN) & (np.append(0, ids.counts)[rows] >= config.tables.warm_rows)
    if not warm.any():
        raise InputError(f"{path}: no item has {config.tables.warm_rows} training rows: lower tables.warm_rows")
    categories = decoded(old["categories"]).filter(pa.array(warm))
    return Starts.of(_weight(source), torch.from_numpy(rows[warm]), categories).of_new(new["categories"])


def _weight(source: Path) -> StoredTensor:
    return StoredTensor(source, next(name for name in checkpoint.stored_tensors(source) if table_of(name) == ITEM))


def _map(run: Path) -> IdMap:
    return IdMap.load(run / "encoder" / f"{ITEM}.parquet")


def _named(run: Path, rows: np.ndarray) -> np.ndarray:
    """Those of the item table's `rows` that a delta of the log names."""
    found = [named.numpy() for _, named in log.naming(run, ITEM, torch.from_numpy(rows))]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found]))


def _read(path: Path) -> pa.Table:
    """item_id and categories of a file or folder of Parquet, each item once."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    try:
        names = pq.ParquetDataset(path).schema.names
        if names.count("item_id") != 1:
            raise InputError(f"{path}: expected one column item_id, found {', '.join(names) or 'no column'}")
        table = pq.read_table(path, columns=[name for name in ("item_id", "categories") if name in names])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None
    ids = decoded(table["item_id"])
    if not (pa.types.is_integer(ids.type) or pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise InputError(f"{path}: column item_id: expected strings or integers, found {ids.type}")
    if ids.null_count:
        raise InputError(f"{path}: column item_id: row {pc.index(pc.is_null(ids), True).as_py()}: expected no null")
    categories = decoded(table["categories"]) if "categories" in table.column_names else None
    kind = pa.list_(pa.string())
    try:
        categories = pa.nulls(len(ids), kind) if categories is None else categories.cast(kind)
    except pa.ArrowException as error:
        raise InputError(f"{path}: column categories: expected lists of strings: {error}") from None
    first = np.unique(ids.combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True)[1]
    return pa.table({"item_id": ids, "categories": categories}).take(pa.array(np.sort(first)))


def _require_type(path: Path, items: pa.ChunkedArray, ids: IdMap) -> None:
    if pa.types.is_integer(items.type) != pa.types.is_integer(ids.ids.type):
        raise InputError(f"{path}: column item_id: expected {ids.ids.type}, as in training, found {items.type}")
    try:
        items.cast(ids.ids.type)
    except pa.ArrowException as error:
        raise InputError(f"{path}: column item_id: expected {ids.ids.type}, as in training: {error}") from None
