"""Panels as SVG for the page, and as PNG: drawn by matplotlib; in the page text is in the reader's own fonts.

In the page a colour is a CSS variable, so that one drawing serves light and dark paper.
"""

import io
import re
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.figure import FigureBase
from PIL import Image

from recsys.report.figure import WIDTH, Figure, Panel
from recsys.report.palette import COLOURS, INK, LINE, MUTED, PAPER

_POINTS = 72
"""A CSS pixel is drawn as a point of an SVG: an inch has 72."""
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: selectable, and in the reader's font
    "text.parse_math": False,  # a system's name may hold a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib, and wider than what systems show: nothing grows
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.edgecolor": LINE,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.pad": 6,
    "ytick.major.pad": 5,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "lines.solid_capstyle": "round",
}
_MARGIN = 48
"""Pixels around a panel in a PNG."""
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_TO_VARIABLE = {light: f"var(--{name})" for name, (light, _) in COLOURS.items()}
_COLOUR = re.compile("|".join(_TO_VARIABLE))


def axes_of(
    host: FigureBase, height: float, left: float = 8, right: float = 8, top: float = 30, bottom: float = 26
) -> Axes:
    """Axes in a panel of this height, by their margins; all in CSS pixels."""
    return host.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
    )


def head(host: FigureBase, height: float, title: str, under: str = "") -> None:
    """A panel's title, and a line under it."""
    host.text(0, 1 - 2 / height, title, va="top", weight="bold", size=13)
    host.text(0, 1 - 21 / height, under, va="top", size=11, color=MUTED)


def short(name: str, most: int) -> str:
    """A name that fits beside a picture."""
    return name if len(name) <= most else name[: most - 1] + "…"


def beside(axis: Axes, x: float, y: float, text: str, **looks: Any) -> None:
    """A text to the right of a point."""
    axis.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", **looks)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places for labels as near to those wanted as can be at this distance from each other."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    places = list(wanted)
    for below, above in pairwise(order):
        places[above] = max(places[above], places[below] + gap)
    shift = sum(a - b for a, b in zip(places, wanted, strict=True)) / max(len(places), 1)
    return [place - shift for place in places]


def inline(panel: Panel, name: str) -> str:
    """A panel as an <svg> element that fills its place, with what it shows as its accessible name."""
    drawn = _drawn(panel, name, format="svg", transparent=True, metadata=_NO_METADATA).getvalue().decode()
    drawn = re.sub(r'<g id="[^"]*">', "<g>", drawn[drawn.index("<svg") :])  # else as often on the page as panels
    box = f'viewBox="0 0 {WIDTH} {panel.height:g}" role="img" aria-label="{escape(panel.told)}"'
    drawn = re.sub(r"<svg [^>]*>", lambda _: f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box}>', drawn, count=1)
    return _COLOUR.sub(lambda found: _TO_VARIABLE[found[0]], drawn)


def save(figure: Figure, path: Path) -> None:
    """All panels in one PNG on light paper, two in a row and twice as large as on the page."""
    drawn = [
        Image.open(_drawn(panel, figure.name, format="png", facecolor=PAPER, dpi=2 * _POINTS))
        for panel in figure.panels
    ]
    rows = [drawn[k : k + 2] for k in range(0, len(drawn), 2)]
    width = len(rows[0]) * (drawn[0].width + _MARGIN) + _MARGIN
    whole = Image.new("RGB", (width, sum(max(one.height for one in row) + _MARGIN for row in rows) + _MARGIN), PAPER)
    top = _MARGIN
    for row in rows:
        for k, one in enumerate(row):
            whole.paste(one, (_MARGIN + k * (one.width + _MARGIN), top))
        top += max(one.height for one in row) + _MARGIN
    whole.save(path)


def _drawn(panel: Panel, name: str, **options: Any) -> io.BytesIO:
    """A panel as a file. References in an SVG are made unique by the name, and are the same each time."""
    buffer = io.BytesIO()
    with mpl.rc_context(_SETTINGS | {"svg.hashsalt": name}):  # type: ignore[arg-type]
        canvas = Canvas(figsize=(WIDTH / _POINTS, panel.height / _POINTS))
        panel.draw(canvas)
        canvas.savefig(buffer, **options)
    return buffer
