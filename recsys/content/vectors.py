"""Content vectors of items as Parquet (item_id, vector): made from the items' texts, or brought by the user."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from recsys.content.encoder import TextEncoder
from recsys.data.check import check_texts
from recsys.data.schema import ITEMS
from recsys.data.vectors import batches, opened, read
from recsys.errors import InputError
from recsys.files import replacing
from recsys.storage import Location

__all__ = ["read", "text_of", "write"]

_TEXT_COLUMNS = ("title", "categories", "text")


def text_of(title: str | None, categories: list[str] | None, text: str | None) -> str:
    """What an encoder reads of one item, empty if there is nothing.

    Example:
        >>> text_of("Heat (1995)", ["Crime", "Drama"], None)
        'Heat (1995). Crime, Drama'
    """
    parts = [title or "", ", ".join(filter(None, categories or [])), text or ""]
    return ". ".join(part.strip() for part in parts if part.strip())


def write(dataset: Location, encode: TextEncoder, path: Path) -> Path:
    """Encode title, categories and text of every item into `path`, in a stream; null for an item without any.

    Raises:
        InputError: items.parquet is missing, damaged, or has columns of other types.
    """
    with opened(dataset / ITEMS) as file, replacing(path) as temporary:
        names = file.schema_arrow.names
        if "item_id" not in names:
            raise InputError(f"{dataset / ITEMS}: expected a column item_id, found {', '.join(names)}")
        check_texts(dataset / ITEMS, file.schema_arrow)
        columns = ["item_id", *(name for name in _TEXT_COLUMNS if name in names)]
        schema = pa.schema([file.schema_arrow.field("item_id"), ("vector", pa.list_(pa.float32()))])
        bar = tqdm(total=file.metadata.num_rows, desc="encode items", unit="item", disable=None)
        with bar, pq.ParquetWriter(temporary, schema) as writer:
            for batch in batches(file, dataset / ITEMS, columns):
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
