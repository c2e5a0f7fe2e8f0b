"""Values with their intervals, one under the other, each beside its name: levels, or differences around zero."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from recsys.report.drawing import axes_of, head, short
from recsys.report.figure import WIDTH, number
from recsys.report.palette import INK, MUTED, PAPER, Style

LINE_HEIGHT = 26
_TOP, _BOTTOM = 44, 30
"""CSS pixels above and below the lines: title and ticks."""
_MOST = 20
"""Characters of a name."""


@dataclass(frozen=True)
class Line:
    """[value, low, high] of a name, and how it is drawn. `hollow`: the interval holds zero."""

    name: str
    style: Style
    triple: Sequence[float]
    form: str = ".3f"
    hollow: bool = False


def height(lines: int) -> float:
    """Of a panel, in CSS pixels."""
    return _TOP + lines * LINE_HEIGHT + _BOTTOM


def margin(names: Iterable[str]) -> float:
    """Room for the longest name, in CSS pixels."""
    return 14 + 7.4 * min(_MOST, max(map(len, names)))


def limits(triples: Sequence[Sequence[float]]) -> tuple[float, float]:
    """An axis that holds all intervals."""
    low, high = min(triple[1] for triple in triples), max(triple[2] for triple in triples)
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room


def draw(
    host: FigureBase,
    lines: Sequence[Line],
    left: float,
    span: tuple[float, float],
    title: str,
    under: str,
    reference: float | None = None,
) -> None:
    """Lines in a panel of their `height`, names in a margin of `left` CSS pixels; a rule at the reference."""
    tall = height(len(lines))
    head(host, tall, title, under)
    right = 64
    axis = axes_of(host, tall, left, right, top=_TOP, bottom=_BOTTOM)
    axis.set(xlim=span, ylim=(len(lines) - 0.5, -0.5), yticks=[])
    axis.spines[["left"]].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(3))
    axis.grid(axis="x")
    axis.tick_params(length=0)
    if reference is not None and span[0] <= reference <= span[1]:
        axis.axvline(reference, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    for k, line in enumerate(lines):
        axis.plot(line.triple[1:], [k, k], color=line.style.colour, linewidth=2.2)
        face = PAPER if line.hollow else line.style.colour
        axis.plot(line.triple[0], k, line.style.marker, color=line.style.colour, markersize=7.5, mfc=face, mew=1.6)
        row = axis.get_yaxis_transform()
        wide = WIDTH - left - right
        axis.text(-left / wide, k, short(line.name, _MOST), transform=row, va="center", color=INK)
        axis.text(1 + 8 / wide, k, number(line.triple[0], line.form), transform=row, va="center", size=11.5)
