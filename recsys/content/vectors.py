"""Content vectors of items as Parquet (item_id, vector): made from the items' texts, or brought by the user."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.content.encoder import TextEncoder
from recsys.data.check import check_texts, same_ids
from recsys.data.matrix import matrix
from recsys.data.schema import ITEMS
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.files import replacing

_ROWS = 2048
_TEXT_COLUMNS = ("title", "categories", "text")


def text_of(title: str | None, categories: list[str] | None, text: str | None) -> str:
    """What an encoder reads of one item, empty if there is nothing.

    Example:
        >>> text_of("Heat (1995)", ["Crime", "Drama"], None)
        'Heat (1995). Crime, Drama'
    """
    parts = [title or "", ", ".join(filter(None, categories or [])), text or ""]
    return ". ".join(part.strip() for part in parts if part.strip())


def write(dataset: Path, encode: TextEncoder, path: Path) -> Path:
    """Encode title, categories and text of every item into `path`, in a stream; null for an item without any.

    Raises:
        InputError: items.parquet is missing, damaged, or has columns of other types.
    """
    with _open(dataset / ITEMS) as file, replacing(path) as temporary:
        names = file.schema_arrow.names
        if "item_id" not in names:
            raise InputError(f"{dataset / ITEMS}: expected a column item_id, found {', '.join(names)}")
        check_texts(dataset / ITEMS, file.schema_arrow)
        columns = ["item_id", *(name for name in _TEXT_COLUMNS if name in names)]
        schema = pa.schema([file.schema_arrow.field("item_id"), ("vector", pa.list_(pa.float32()))])
        bar = tqdm(total=file.metadata.num_rows, desc="encode items", unit="item", disable=None)
        with bar, pq.ParquetWriter(temporary, schema) as writer:
            for batch in _batches(file, dataset / ITEMS, columns):
                table = {name: batch[name].to_pylist() for name in columns[1:]}
                nothing = [None] * batch.num_rows
                fields = (table.get(name, nothing) for name in _TEXT_COLUMNS)
                texts = [text_of(*one) for one in zip(*fields, strict=True)]
                told = [text for text in texts if text]
                found = dict(zip(told, encode(told), strict=True)) if told else {}
                vectors = pa.array([found.get(text) for text in texts], schema.field("vector").type)
                writer.write_batch(pa.record_batch([batch["item_id"], vectors], schema=schema))
                bar.update(batch.num_rows)
    return path


def read(path: Path, kind: pa.DataType) -> Iterator[tuple[pa.Array, NDArray[np.float64]]]:
    """Item ids [n] and vectors [n, H], some thousand at a time; items whose vector is null are left out.

    kind: the type of the dataset's ids. All ids of the file are in memory, to find any that is there twice.

    Raises:
        InputError: not Parquet with item_id and vector, ids of another type, null or there twice, or a vector that is
            not of the first one's width, empty or not finite.
    """
    with _open(path) as file:
        found = file.schema_arrow
        if not {"item_id", "vector"} <= {*found.names}:
            raise InputError(f"{path}: expected columns item_id and vector, found {', '.join(found.names)}")
        if not same_ids(found.field("item_id").type, kind):
            raise InputError(
                f"{path}: column 'item_id': expected {kind} as in the dataset, found {found.field('item_id').type}"
            )
        _once(path, [batch["item_id"] for batch in _batches(file, path, ["item_id"])])
        width = 0
        for batch in _batches(file, path, ["item_id", "vector"]):
            told = pa.table(batch.filter(batch["vector"].is_valid()))
            if told.num_rows:
                vectors = matrix(told["vector"], told["item_id"], str(path), np.float64, width)
                width = vectors.shape[1]
                yield told["item_id"].combine_chunks(), vectors


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: truncated or not Parquet: {error}") from None


def _batches(file: pq.ParquetFile, path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(_ROWS, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged: {error}") from None


def _once(path: Path, parts: list[pa.Array]) -> None:
    ids = decoded(pa.chunked_array(parts)) if parts else pa.chunked_array([], pa.string())
    if ids.null_count:
        raise InputError(f"{path}: column 'item_id': expected no nulls, found {ids.null_count}")
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        name, count = twice[0]["values"].as_py(), twice[0]["counts"]
        raise InputError(f"{path}: column 'item_id': {name!r} occurs {count} times; expected once")
