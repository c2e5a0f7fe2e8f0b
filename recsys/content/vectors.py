"""Content vectors of items as Parquet (item_id, vector): made from the items' texts, or brought by the user."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.content.encoder import TextEncoder
from recsys.data.schema import ITEMS, is_list
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
    """Encode title, categories and text of every item into `path`, in a stream; null for an item without any."""
    with pq.ParquetFile(dataset / ITEMS) as file, replacing(path) as temporary:
        names = file.schema_arrow.names
        columns = ["item_id", *(name for name in _TEXT_COLUMNS if name in names)]
        schema = pa.schema([file.schema_arrow.field("item_id"), ("vector", pa.list_(pa.float32()))])
        bar = tqdm(total=file.metadata.num_rows, desc="encode items", unit="item", disable=None)
        with bar, pq.ParquetWriter(temporary, schema) as writer:
            for batch in file.iter_batches(_ROWS, columns=columns):
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


def read(path: Path) -> Iterator[tuple[pa.Array, NDArray[np.float64]]]:
    """Item ids [n] and vectors [n, H], some thousand at a time; items whose vector is null are left out.

    Raises:
        InputError: not Parquet with item_id and vector, or a vector that is not of the first one's width or not finite.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected Parquet with item_id and vector: {error}") from None
    with file:
        schema = file.schema_arrow
        kinds = dict(zip(schema.names, schema.types, strict=True))
        vector = kinds.get("vector", pa.null())
        if "item_id" not in kinds or not (is_list(vector) or pa.types.is_fixed_size_list(vector)):
            raise InputError(f"{path}: expected columns item_id and vector (a list of floats), found {kinds}")
        width = 0
        for batch in file.iter_batches(_ROWS, columns=["item_id", "vector"]):
            batch = batch.filter(batch["vector"].is_valid())
            if batch.num_rows:
                vectors = _matrix(path, batch, width)
                width = vectors.shape[1]
                yield batch["item_id"], vectors


def _matrix(path: Path, batch: pa.RecordBatch, width: int) -> NDArray[np.float64]:
    """[n, H] float64 of the lists of a batch; `width` is the H expected, 0 for any."""
    lengths = batch["vector"].value_lengths().to_numpy()
    width = width or int(lengths[0])
    flat = batch["vector"].flatten().cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(lengths != width)
    if not len(bad):
        vectors = flat.reshape(-1, width)
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        item = batch["item_id"][int(bad[0])].as_py()
        raise InputError(f"{path}: column 'vector': item {item!r}: expected {width} finite numbers")
    return vectors
