"""One item's rows in the Parquet files of a dataset and a run: filtered as they stream, never a file in memory."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys import settings
from recsys.data.schema import ITEMS, is_text, split_files
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups

SHOWN = 5
"""Users, rows or scores that are named one by one."""
_NEAR = 10_000
"""Ids that the nearest are sought among."""


def identified(dataset: Path, name: str) -> tuple[pa.Scalar, dict[str, object]]:
    """The id in the dataset's own type, and the item's row of items.parquet without images and nulls.

    Raises:
        InputError: no such item, with the nearest there are.
    """
    path = dataset / ITEMS
    if not path.exists():
        raise InputError(f"{path}: no such file: prepare the dataset first, by tools.prepare with this config")
    schema = pq.read_schema(path)
    kind = schema.field("item_id").type
    columns = [field.name for field in schema if not pa.types.is_binary(field.type)]
    try:
        item = pa.scalar(name).cast(kind)
    except pa.ArrowInvalid:
        raise InputError(f"{path}: no item {name!r}: its ids are {kind}") from None
    found = rows(path, item, columns)
    if not found.num_rows:
        near = ", ".join(map(repr, _near(path, name)))
        raise InputError(f"{path}: no item {name!r}; the nearest are {near}")
    return item, {key: value for key, value in found.to_pylist()[0].items() if value is not None}


def rows(path: Path, item: pa.Scalar, columns: Sequence[str]) -> pa.Table:
    """The rows of a file, or of the Parquet files below a folder, that are the item's.

    Raises:
        InputError: a file that is damaged, or lacks a column.
    """
    try:
        return ds.dataset(path, format="parquet").to_table(list(columns), filter=pc.field("item_id") == item)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def numbered(dataset: Path, split: str, item: pa.Scalar, columns: Sequence[str]) -> pa.Table:
    """The item's rows of a split, with their row ids as `row_id` int64; empty where the split does not exist.

    Raises:
        InputError: as `recsys.evaluate.scores.read_groups`.
    """
    start, parts = 0, []
    for file in split_files(dataset, split):
        for _, table in read_groups(file, ["item_id", *columns]):
            places = pc.indices_nonzero(pc.fill_null(pc.equal(table["item_id"], item), False))
            ids = pc.add(places.cast(pa.int64()), start)
            parts.append(table.take(places).append_column("row_id", ids))
            start += table.num_rows
    return pa.concat_tables(parts) if parts else pa.table({})


def scores(path: Path, row_ids: pa.Array) -> dict[int, float]:
    """By row id, those of a file or folder of predictions.

    Raises:
        InputError: it cannot be read.
    """
    try:
        found = ds.dataset(path, format="parquet").to_table(filter=pc.field("row_id").isin(row_ids))
        return dict(zip(found["row_id"].to_pylist(), found["score"].to_pylist(), strict=True))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: expected row_id and score: {error}") from None


def written(path: Path) -> str:
    """When a file was last written, local time."""
    return datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")


def _near(path: Path, name: str) -> list[str]:
    """Among ids that hold the name or begin as it does, if there are such, else among the first."""
    table = ds.dataset(path, format="parquet").scanner(columns=["item_id"])
    likely: list[str] = []
    first: list[str] = []
    for batch in table.to_batches():
        ids = batch["item_id"] if is_text(batch["item_id"].type) else batch["item_id"].cast(pa.string())
        fits = pc.or_(pc.match_substring(ids, name, ignore_case=True), pc.starts_with(ids, name[:3], ignore_case=True))
        likely += ids.filter(fits).to_pylist()[: _NEAR - len(likely)]
        first += ids[: _NEAR - len(first)].to_pylist()
    return settings.nearest(name, likely or first, 3)
