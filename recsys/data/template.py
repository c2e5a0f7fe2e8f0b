"""The text of an item by a template such as `{title} ({year}). {text}`, of which missing fields leave no trace."""

import re
from dataclasses import dataclass
from itertools import chain
from string import Formatter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.schema import is_list
from recsys.data.side import decoded, lists
from recsys.errors import InputError

CHARACTERS = 16
"""Characters worth reading for each token of a budget: ordinary text has four or five to a token."""
_SEPARATORS = " .,;:|/-\n\t"


@dataclass(frozen=True)
class Piece:
    """One field of a template with the punctuation that stands and falls with it."""

    opening: str
    name: str
    closing: str


def pieces(template: str) -> list[Piece]:
    """The template's fields in order. What is between two of them belongs to the first one up to the first white space
    (") " in `({year}) {text}`), and from there to the second.
    """
    names: list[str] = []
    literals = [""]
    for literal, name, _, _ in Formatter().parse(template):
        literals[-1] += literal
        if name:
            names.append(name)
            literals.append("")
    shared = [re.match(r"(\S*)(.*)", literal, re.DOTALL) for literal in literals[1:-1]]
    openings = [literals[0], *(cut[2] for cut in shared if cut)]
    closings = [*(cut[1] for cut in shared if cut), literals[-1]]
    return [Piece(*one) for one in zip(openings, names, closings, strict=True)]


def fill(template: list[Piece], values: dict[str, str]) -> str:
    """The text, "" if every value is missing or empty; no separator is left at an end where a field is missing.

    Example:
        >>> fill(pieces("{title}. {genre}. {text}"), {"title": "Heat", "genre": "Crime"})
        'Heat. Crime'
    """
    parts = [[piece.opening, values[piece.name], piece.closing] for piece in template if values.get(piece.name)]
    if not parts:
        return ""
    if not values.get(template[0].name):
        parts[0][0] = parts[0][0].lstrip(_SEPARATORS)
    if not values.get(template[-1].name):
        parts[-1][2] = parts[-1][2].rstrip(_SEPARATORS)
    return "".join(chain.from_iterable(parts)).strip()


def columns(template: str) -> list[str]:
    """The columns that it names, each once."""
    return list(dict.fromkeys(piece.name for piece in pieces(template)))


def texts(items: pa.RecordBatch | pa.Table, template: str, characters: int, where: str = "items") -> list[str]:
    """The texts of n rows, "" where there is nothing to say; neither a value nor a text has more `characters`.

    Columns that the template names and the table has not are missing in every row.

    Raises:
        InputError: a column is not of strings, numbers, or lists of them; `where` is named.
    """
    told = {
        name: _strings(decoded(items[name]), name, characters, where)
        for name in columns(template)
        if name in items.schema.names
    }
    if not told:
        return [""] * items.num_rows
    cut = pieces(template)
    return [fill(cut, dict(zip(told, row, strict=True)))[:characters] for row in zip(*told.values(), strict=True)]


def _strings(column: pa.Array | pa.ChunkedArray, name: str, characters: int, where: str) -> list[str]:
    """A column as n short texts, a list joined by commas, null as ""."""
    try:
        column = _joined(column) if is_list(column.type) else column
        short = pc.utf8_slice_codeunits(column.cast(pa.string()), 0, characters)
    except pa.ArrowException:
        raise InputError(
            f"{where}: column {name!r}: expected strings (UTF-8), numbers or lists of them, found {column.type}"
        ) from None
    return pc.fill_null(pc.utf8_trim_whitespace(short), "").to_pylist()


def _joined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column of lists as one text each, its values separated by commas; null and empty ones are left out."""
    values, offsets = lists(column)
    words = decoded(values).cast(pa.string())
    told = pc.fill_null(pc.greater(pc.binary_length(words), 0), False)
    kept = np.concatenate([[0], np.cumsum(told.to_numpy(zero_copy_only=False))])[offsets]
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(kept, pa.int32()), words.filter(told)), ", ")
