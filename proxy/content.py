"""An item's content as an encoder takes it: one text by the config's template, and one image.

Everything here is from outside and bounded: texts by characters (before a tokenizer sees them), images by bytes and
pixels (before they are decoded). What cannot be used counts as missing, and is counted.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from proxy import images
from recsys.config_proxy import ContentEncoder
from recsys.data import template
from recsys.data.schema import ITEMS
from recsys.data.side import decoded
from recsys.data.vectors import opened
from recsys.errors import InputError


@dataclass(frozen=True)
class Content:
    """The content of n items.

    Attributes:
        ids: [n] item ids, string or int64.
        texts: n texts, "" where an item has none.
        images: n encoded images that are known to decode, None where an item has none (or the encoder reads none).
    """

    ids: pa.Array
    texts: list[str]
    images: list[bytes | None]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def empty(self) -> NDArray[np.bool_]:
        """[n] whether an item has neither text nor image: nothing can be said of it."""
        pairs = zip(self.texts, self.images, strict=True)
        return np.array([not text and image is None for text, image in pairs], dtype=bool)

    @property
    def digests(self) -> list[bytes]:
        """[n] of 16 bytes: another one where an item's content has changed in anything that the encoder reads."""
        pairs = zip(self.texts, self.images, strict=True)
        hashed = ((hashlib.blake2b(text.encode(), digest_size=16), image) for text, image in pairs)
        return [hashlib.blake2b(text.digest() + (image or b""), digest_size=16).digest() for text, image in hashed]

    def take(self, at: Sequence[int] | NDArray[np.integer[Any]]) -> "Content":
        """The items at these positions, in this order."""
        at = np.asarray(at, dtype=np.int64)
        return Content(self.ids.take(pa.array(at)), [self.texts[i] for i in at], [self.images[i] for i in at])

    @staticmethod
    def concat(parts: Sequence["Content"]) -> "Content":
        """All parts (at least one) as one."""
        return Content(
            pa.concat_arrays([part.ids for part in parts]),
            [text for part in parts for text in part.texts],
            [image for part in parts for image in part.images],
        )


def read(
    path: Path,
    config: ContentEncoder,
    batch: int = 256,
    counts: Counter[str] | None = None,
    keep: Callable[[pa.Array], NDArray[np.bool_]] | None = None,
) -> Iterator[Content]:
    """The content of every item of a Parquet file (or of a dataset directory's items.parquet), `batch` at a time.

    Columns that the template names and the file has not are missing in every item. `counts` is added to as `of` says.

    keep: of ids [n], which [n] are wanted; the images of others are not decoded.

    Raises:
        InputError: no such file, not Parquet or damaged, none of the template's columns (nor, for an encoder of images,
            an `image`), or a column of a type that cannot be read.
    """
    path = path / ITEMS if path.is_dir() else path
    with opened(path) as file:
        names = file.schema_arrow.names
        if "item_id" not in names:
            raise InputError(f"{path}: expected a column item_id, found {', '.join(names)}")
        wanted = [name for name in _columns(config) if name in names]
        if not wanted:
            raise InputError(f"{path}: expected a column of {', '.join(_columns(config))}, found {', '.join(names)}")
        try:
            for rows in file.iter_batches(batch, columns=["item_id", *wanted]):
                if keep:
                    rows = rows.filter(pa.array(keep(decoded(rows["item_id"]))))
                if rows.num_rows:
                    yield of(rows, config, counts, str(path))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: damaged: {error}") from None


def of(
    items: pa.RecordBatch | pa.Table, config: ContentEncoder, counts: Counter[str] | None = None, where: str = "items"
) -> Content:
    """The content of items in memory: a column item_id and any of the template's; `image` where the encoder reads it.

    counts: "items", "empty", "image" (usable), "image too large", "image broken" are added to it.

    Raises:
        InputError: a column is not of strings, numbers, or lists of them, or `image` not binary; `where` is named.
    """
    texts = template.texts(items, config.template, template.CHARACTERS * config.tokens, where)
    looks = decoded(items["image"]) if "image" in _columns(config) and "image" in items.schema.names else None
    sound, found = _images(looks, items.num_rows, config, where)
    ids = decoded(items["item_id"])
    content = Content(ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids, texts, sound)
    if counts is not None:
        counts.update(found)
        counts.update({"items": len(content), "empty": int(content.empty.sum())})
    return content


def _columns(config: ContentEncoder) -> list[str]:
    return template.columns(config.template) + (["image"] if config.kind == "vision" else [])


def _images(
    column: pa.Array | pa.ChunkedArray | None, rows: int, config: ContentEncoder, where: str
) -> tuple[list[bytes | None], Counter[str]]:
    """The sound ones of n images, and the counts of sound and other ones."""
    if column is None:
        return [None] * rows, Counter()
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) or pa.types.is_null(column.type)):
        raise InputError(f"{where}: column 'image': expected binary, found {column.type}")
    column = column.cast(pa.large_binary())
    large = pc.fill_null(pc.greater(pc.binary_length(column), config.image_bytes), False)
    # Before they are copied out of Arrow's memory.
    brought = pc.if_else(large, None, column).to_pylist()
    faults = [images.fault(one, config) if one else None for one in brought]
    sound = [one if one and not wrong else None for one, wrong in zip(brought, faults, strict=True)]
    found = Counter(f"image {wrong}" for wrong in faults if wrong)
    found.update({"image": sum(one is not None for one in sound), "image too large": pc.sum(large).as_py() or 0})
    return sound, found
