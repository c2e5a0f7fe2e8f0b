"""Texts of a dataset's items by a template, of those items alone that are asked about."""

from pathlib import Path

import pyarrow as pa

from recsys.data import template
from recsys.data.schema import ITEMS
from recsys.data.side import decoded
from recsys.data.vectors import batches, opened, require_ids
from recsys.errors import InputError
from recsys.evaluate.positives import index


def read(source: Path, told: str, tokens: int, items: pa.Array) -> list[str]:
    """[n] the texts of `items` [n], each once in there; "" of one that has none, or is not there.

    source: Parquet with item_id and columns of the template, or a dataset directory. told: the template. tokens: what
        will be read of a text; it is cut at as many characters as could be worth reading.

    Raises:
        InputError: no such file, damaged, none of the template's columns, or a column of a type that cannot be read.
    """
    path = source / ITEMS if source.is_dir() else source
    found, place = [""] * len(items), index("item_id", items)
    with opened(path) as file:
        require_ids(file, path, items.type)
        names = template.columns(told)
        wanted = [name for name in names if name in file.schema_arrow.names]
        if not wanted:
            raise InputError(f"{path}: expected a column of {', '.join(names)}, found {file.schema_arrow.names}")
        for batch in batches(file, path, list(dict.fromkeys(["item_id", *wanted]))):
            rows = place.rows(decoded(batch["item_id"]))
            kept = batch.filter(pa.array(rows > 0))
            for row, text in zip(
                rows[rows > 0], template.texts(kept, told, template.CHARACTERS * tokens, str(path)), strict=True
            ):
                found[row - 1] = text
    return found
