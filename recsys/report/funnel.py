"""Who was found to take the simulated items: users, those filtered, those who said yes, those who really did.

Read from what `tools.simulate` leaves: simulated.parquet (item_id, yes, qualified), and quality.json of
`tools.simulate quality`.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import FigureBase

from recsys.data.schema import read_info
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.report import forest
from recsys.report.drawing import axes_of, beside, head
from recsys.report.figure import WIDTH, Figure, Made, NotRun, Panel, Sheet, interval, listed
from recsys.report.forest import Line
from recsys.report.palette import ACCENT, COLOURS, INK, MUTED, styles
from recsys.report.source import Source, read_json

TITLE = "The funnel of simulated users"
QUALITY = "RealPair of the simulation"
HEIGHT = 270


class Step(NamedTuple):
    """Users of an item at one step, on average."""

    name: str
    users: float


def make(source: Source) -> list[Made]:
    """The funnel; where nobody has measured which pairs are real, that too.

    Raises:
        InputError: a file of the simulation is damaged.
    """
    folder = source.run / "simulator" / source.config.simulator.name
    measured = NotRun(QUALITY, [source.command("tools.simulate quality")])
    if not (folder / "simulated.parquet").exists():
        return [NotRun(TITLE, [source.command("tools.simulate")]), measured]
    items, candidates, asked, qualified = _counts(folder / "simulated.parquet")
    quality = _quality(folder / "quality.json")
    steps = [
        Step("users", read_info(source.config.data.path).users),
        Step("filtered", candidates / items),
        *([Step("asked", asked / items)] if asked not in (0, candidates) else []),
        Step("qualified", qualified / items),
        *([Step("real", quality["real_pair"][0] * qualified / items)] if quality else []),
    ]
    told = listed([f"{_count(step.users)} {step.name}" for step in steps[1:]])
    shares = _shares(quality, qualified, asked)
    rows = [[step.name, f"{step.users:,.2f}", ""] for step in steps] + [[name, "", text] for name, text in shares]
    found = f"Of {_count(steps[0].users)} users an item has on average {told}."
    panels = [Panel(found, HEIGHT, partial(_draw, steps=steps, items=items))]
    if quality:
        panels.append(_truth(quality))
    made = Figure(
        name="funnel",
        title=TITLE,
        finding=found + "".join(f" {name}: {text}." for name, text in shares),
        panels=panels,
        sheet=Sheet(["step", "users for an item", "share, 95 % interval"], rows),
        commands=[source.command("tools.simulate"), *measured.commands],
        note="Bars are on a logarithmic scale. Adoption: the share of those asked who qualified. RealPair: the share "
        "of qualified pairs that held-out rows confirm.",
    )
    return [made] if quality else [made, measured]


def _counts(path: Path) -> tuple[int, int, int, int]:
    """Items, candidate pairs, pairs asked about and pairs qualified; one row group in memory at a time, and the ids."""
    ids: list[pa.Array] = []
    counts = [0, 0, 0]
    for _, table in read_groups(path, ["item_id", "yes", "qualified"]):
        ids.append(pc.unique(table["item_id"]))
        counts[0] += table.num_rows
        counts[1] += table.num_rows - table["yes"].null_count
        counts[2] += pc.sum(table["qualified"]).as_py() or 0
    if not counts[0]:
        raise InputError(f"{path}: expected simulated pairs, found none")
    return len(pc.unique(pa.concat_arrays(ids))), counts[0], counts[1], counts[2]


def _quality(path: Path) -> dict[str, list[float]]:
    """RealPair, chance and adoption of quality.json; empty where there is none."""
    told = read_json(path)
    if told is None:
        return {}
    share = told.get("real_pair")
    if not isinstance(share, list) or len(share) != 3 or not all(isinstance(one, float | int) for one in share):
        raise InputError(f"{path}: real_pair: expected [value, low, high], found {share!r}")
    return {"real_pair": share, "chance": [told.get("chance", 0.0)], "adoption": told.get("adoption") or []}


def _shares(quality: dict[str, list[float]], qualified: int, asked: int) -> list[tuple[str, str]]:
    if not quality:
        return [("Adoption", f"{qualified / asked:.3f}")] if asked else []
    real = (f"RealPair (chance {quality['chance'][0]:.3f})", interval(quality["real_pair"]))
    return [*([("Adoption", interval(quality["adoption"]))] if quality["adoption"] else []), real]


def _count(users: float) -> str:
    return f"{users:,.1f}".removesuffix(".0")


def _truth(quality: dict[str, list[float]]) -> Panel:
    """RealPair beside chance."""
    looks = styles(["road", "base"])
    real, chance = Line("RealPair", looks["road"], quality["real_pair"]), quality["chance"] * 3
    lines = [real, Line("chance", looks["base"], chance)]
    span = (0.0, forest.limits([real.triple, chance])[1])
    title, under = "how true the simulation is", "share of qualified pairs that are real"
    left = forest.margin([real.name])
    draw = partial(forest.draw, lines=lines, left=left, span=span, title=title, under=under)
    told = f"RealPair {interval(real.triple)}, by chance {chance[0]:.3f}."
    return Panel(told, forest.height(len(lines)), draw)


def _draw(host: FigureBase, steps: list[Step], items: int) -> None:
    head(host, HEIGHT, "users for an item", f"mean of {items:,} items, logarithmic scale")
    left, right = 78, 70
    axis = axes_of(host, HEIGHT, left, right, top=50, bottom=4)
    least = min(0.5, *(max(step.users, 0.01) / 2 for step in steps))
    axis.set_xscale("log")
    axis.set(xlim=(least, max(step.users for step in steps)), ylim=(len(steps) - 0.4, -0.6), xticks=[], yticks=[])
    axis.minorticks_off()
    axis.spines[["left", "bottom"]].set_visible(False)
    for k, step in enumerate(steps):
        colour = ACCENT if k == len(steps) - 1 else COLOURS["slate"][0]
        axis.barh(k, max(step.users, least) - least, 0.62, left=least, color=colour)
        row = axis.get_yaxis_transform()
        axis.text(-left / (WIDTH - left - right), k, step.name, transform=row, va="center", color=INK)
        beside(axis, max(step.users, least), k, _count(step.users), color=INK, weight="bold")
        if k:
            share = step.users / steps[k - 1].users if steps[k - 1].users else 0.0
            beside(axis, least, k - 0.5, f"{share:.1%} of them", size=10.5, color=MUTED)
