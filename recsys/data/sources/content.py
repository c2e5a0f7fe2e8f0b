"""Item content (an overview and a poster) from a Parquet file, joined to the items by title."""

import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.log import Log
from recsys.data.sources.tabular import read_columns
from recsys.errors import InputError

COLUMNS = {"title": "string", "overview": "string", "poster_jpeg": "binary"}


def join(log: Log, path: str) -> Log:
    """Fill the items' `text` and `image` from the rows of equal title, or of equal title but for case and punctuation.

    Notes how many items have no match. Of equal titles in the file the first counts.

    Raises:
        InputError: the file is missing or corrupt, or lacks one of `COLUMNS`.
    """
    content = _read(path)
    titles = content["title"].to_pylist()
    exact, loose = _index(titles), _index([_plain(title) for title in titles])
    wanted = log.items["title"].to_pylist()
    matches = [exact.get(title, loose.get(_plain(title))) for title in wanted]
    unmatched = [title for title, match in zip(wanted, matches, strict=True) if match is None]
    index = pa.array(matches, pa.int64())
    items = log.items
    text = pc.fill_null(content["overview"].combine_chunks().take(index), "")
    items = items.set_column(items.column_names.index("text"), "text", text)
    image = content["poster_jpeg"].combine_chunks().take(index)
    items = items.set_column(items.column_names.index("image"), "image", image)
    note = (
        f"content: {len(wanted) - len(unmatched)} of {len(wanted)} items matched by title, "
        f"{len(wanted) - text.to_pylist().count('')} with text, {len(wanted) - image.null_count} with an image"
    )
    if unmatched:
        note += f"; {len(unmatched)} unmatched, such as {unmatched[0]!r}"
    return replace(log, items=items, notes=(*log.notes, note))


def _read(path: str) -> pa.Table:
    table = read_columns(Path(path), COLUMNS)
    for name, kind in COLUMNS.items():
        try:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise InputError(f"{path}: column {name!r}: expected {kind}, found {table[name].type}") from None
    return table


def _index(keys: list[str | None]) -> dict[str | None, int]:
    found: dict[str | None, int] = {}
    for place, key in enumerate(keys):
        if key:
            found.setdefault(key, place)
    return found


def _plain(title: str | None) -> str:
    return re.sub(r"\W+", "", title or "").casefold()
