"""Is a score of .3 a click in ten of three? Mean score against share of positives, in bins of equal size."""

from functools import partial

import numpy as np
from matplotlib.figure import FigureBase

from recsys.report.drawing import axes_of, head
from recsys.report.figure import Figure, Made, NotRun, Panel, Sheet, interval
from recsys.report.palette import MUTED, PAPER, Style, styles
from recsys.report.source import Source, Triple

TITLE = "Calibration"
HEIGHT = 260


def make(source: Source) -> Made:
    """A panel for each system and segment that reliability was measured of."""
    found = [
        (system, segment, bins)
        for system, by_segment in source.results.reliability.items()
        for segment, bins in by_segment.items()
        if bins
    ]
    if not found:
        return NotRun(TITLE, source.evaluations())
    looks = styles([system for system, *_ in found])
    panels, rows, ratios = [], [], []
    for system, segment, bins in found:
        triple = source.results.systems.get(system, {}).get(segment, {}).get("calibration")
        ratio = interval(triple) if isinstance(triple, tuple) else "not known"
        ratios += [(abs(triple[0] - 1), f"{system}, {segment}, {ratio}")] if isinstance(triple, tuple) else []
        _, score, share = np.array(bins).T
        apart = float(np.abs(score - share).max())
        title = f"{system}, {segment}"
        under = f"predicted over real: {ratio}"
        draw = partial(_draw, bins=bins, look=looks[system], title=title, under=under)
        words = f"{title}: predicted over real {ratio}; no bin is further off than {apart:.3f}."
        panels.append(Panel(words, HEIGHT, draw))
        rows += [[system, segment, f"{n:,.0f}", f"{mean:.4f}", f"{real:.4f}"] for n, mean, real in bins]
    return Figure(
        name="calibration",
        title=TITLE,
        finding=_extremes(ratios),
        panels=panels,
        sheet=Sheet(["system", "segment", "rows", "mean score", "share of positives"], rows),
        commands=source.evaluations(),
        note="Above the dotted line the system predicts too little, below it too much.",
    )


def _extremes(ratios: list[tuple[float, str]]) -> str:
    """How far from 1, at best and at worst; ratios: the distance, and the system with its ratio."""
    if not ratios:
        return "Mean score against the share of positives."
    told = f"Predicted clicks over real ones, 1 being right. Nearest: {min(ratios)[1]}."
    return told + (f" Furthest: {max(ratios)[1]}." if len(ratios) > 1 else "")


def _draw(host: FigureBase, bins: list[Triple], look: Style, title: str, under: str) -> None:
    head(host, HEIGHT, title, under)
    axis = axes_of(host, HEIGHT, 52, 14, top=50, bottom=48)
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    _, score, share = np.array(bins).T
    axis.plot(score, share, look.marker, color=look.colour, linestyle=look.dashes, ms=6.5, lw=1.4, mec=PAPER, mew=0.8)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axis.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks, xlabel="mean score", ylabel="share of positives")
    axis.tick_params(length=0)
    axis.grid()
