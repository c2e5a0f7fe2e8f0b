"""Lines of the tables of record."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recsys.evaluate import report

METRICS = {"auc": "AUC", "gauc": "GAUC (within users)"}
"""Of pointwise results, as tables head them."""


def head(title: str, heads: Iterable[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    cells = [title, *heads]
    return ["| " + " | ".join(cells) + " |", "|---" * len(cells) + "|"]


def row(
    title: str,
    by_segment: dict[str, Any],
    segments: tuple[str, ...],
    form: str,
    metrics: tuple[str, ...] = ("auc", "gauc"),
) -> str:
    """A line of a Markdown table: each segment's metrics with their intervals, by a format such as `+.4f`."""
    cells = []
    for segment in segments:
        for metric in metrics:
            entry = by_segment.get(segment)
            if entry is None:
                cells.append("")
            elif metric in entry:
                value, low, high = (format(number, form) for number in entry[metric])
                cells.append(f"{value} [{low}, {high}]")
            else:
                cells.append(report.TOO_FEW)
    return f"| {title} | " + " | ".join(cells) + " |"


def simulations(folders: dict[str, list[Path]]) -> list[str]:
    """How true simulations are: RealPair and adoption rate, means over the draws' folders of each, by its title."""
    lines = ["| simulation | pairs | RealPair | chance | adoption rate |", "|---|---:|---|---:|---|"]
    for title, drawn in folders.items():
        told = [json.loads((folder / "quality.json").read_text()) for folder in drawn]
        pairs, chance = (sum(one[key] for one in told) / len(told) for key in ("qualified", "chance"))
        real, adopted = (_share([one[key] for one in told]) for key in ("real_pair", "adoption"))
        lines.append(f"| {title} | {pairs:,.0f} | {real} | {chance:.3f} | {adopted} |")
    return lines


def _share(found: list[list[float] | None]) -> str:
    known = [one for one in found if one is not None]
    if not known:
        return "nobody asked"
    value, low, high = (sum(column) / len(column) for column in zip(*known, strict=True))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
