"""What a report is made of: figures of panels, each with its finding in words, its table and the commands behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import FigureBase

WIDTH = 340
"""Of a panel, in CSS pixels: two stand side by side on a desk, one fills a phone."""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        told: what it shows, in words and numbers, for those who do not see it.
        height: in CSS pixels.
        draw: onto a figure or a part of one, WIDTH x height pixels.
    """

    told: str
    height: float
    draw: Callable[[FigureBase], None]


@dataclass(frozen=True)
class Sheet:
    """A table: heads, and cells as text."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def numeric(self) -> list[bool]:
        """Whether a column is of numbers, to be set flush right."""
        return [all(row[k][:1] in "+-−0123456789" for row in self.rows) for k in range(len(self.heads))]


@dataclass(frozen=True)
class Figure:
    """Panels of one question.

    Attributes:
        name: of its files and its anchor.
        finding: what there is to see, in a sentence with numbers.
        note: how to read it.
        commands: that made its input.
    """

    name: str
    title: str
    finding: str
    panels: Sequence[Panel]
    sheet: Sheet
    commands: Sequence[str]
    note: str = ""


@dataclass(frozen=True)
class NotRun:
    """A figure whose input is not there."""

    title: str
    commands: Sequence[str] = field(default_factory=tuple)


Made = Figure | NotRun


def number(value: float, form: str = ".3f") -> str:
    """As text, with a minus sign that is as wide as a plus."""
    return f"{value:{form}}".replace("-", "−")


def interval(triple: Sequence[float], form: str = ".3f") -> str:
    """A value with its interval, as text."""
    value, low, high = (number(one, form) for one in triple)
    return f"{value} [{low}, {high}]"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
