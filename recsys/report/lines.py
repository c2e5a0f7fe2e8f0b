"""Curves of systems with their bands, each named at its end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from recsys.report.drawing import axes_of, head, short, spread
from recsys.report.figure import WIDTH
from recsys.report.palette import INK, PAPER, Style

Values = NDArray[np.float64]
HEIGHT = 300


@dataclass(frozen=True)
class Curve:
    """A system's values [n] with their intervals, at x [n] in ascending order."""

    name: str
    style: Style
    x: Values
    value: Values
    low: Values
    high: Values


def draw(host: FigureBase, curves: Sequence[Curve], title: str, under: str, x_label: str) -> None:
    """All curves in one panel."""
    head(host, HEIGHT, title, under)
    right = 112
    axis = axes_of(host, HEIGHT, 44, right, top=52, bottom=48)
    axis.grid(axis="y")
    axis.tick_params(length=0)
    axis.set_xlabel(x_label)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    for curve in curves:
        colour, style = curve.style.colour, curve.style
        axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
        axis.plot(curve.x, curve.value, style.marker, color=colour, ls=style.dashes, lw=1.8, ms=5.5, mec=PAPER, mew=0.8)
    low, high = axis.get_ylim()
    ends = spread([float(curve.value[-1]) for curve in curves], (high - low) * 17 / (HEIGHT - 100))
    for curve, place in zip(curves, ends, strict=True):
        at = (float(curve.x[-1]), float(curve.value[-1]))
        axis.annotate(
            short(curve.name, 14),
            at,
            xytext=(1 + 12 / (WIDTH - 44 - right), place),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": curve.style.colour, "shrinkA": 1, "shrinkB": 4, "lw": 0.8},
        )
