"""The text of an item by a template such as `{title} ({year}). {text}`, of which missing fields leave no trace."""

import re
from dataclasses import dataclass
from itertools import chain
from string import Formatter

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
