"""Two curves: the warm-up curve, from the results of a replay, and what PROMO's rows remember, from a file.

    <run>/prompt/<backbone>/<name>/retention.parquet (`recsys.prompt.retention`)
        system, step: negative feedback rows since; share, low, high: of the pinnacle rows that were scored right at
        step 0, those that still are (PROMO's figure 5)

`step` is an integer, the values are floating point, the names strings; rows in any order.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.evaluate.report import TITLES
from recsys.evaluate.scores import read_groups
from recsys.report import lines
from recsys.report.figure import Figure, Made, NotRun, Panel, Sheet, interval, listed
from recsys.report.lines import Curve
from recsys.report.palette import styles
from recsys.report.source import Source

WARM_UP = "The warm-up curve"
_SEEN = "seen="
RETENTION = "What first feedback leaves behind (retention)"


def warm_up(source: Source) -> Made:
    """AUC against the real impressions that a new item has had."""
    commands = [source.command("tools.lifecycle", "--replay"), source.command("tools.evaluate", "--by impressions")]
    table = _replayed(source)
    if not table.num_rows:
        return NotRun(WARM_UP, commands)
    panels = []
    for metric in pc.unique(table["metric"]).to_pylist():
        curves = list(_curves(table.filter(pc.equal(table["metric"], metric)), "impressions", "value"))
        title = TITLES.get(metric, metric)
        panels.append(_panel(curves, title, "bands: 95 % intervals", "real impressions of the item"))
        if len(panels) == 1:
            finding = _leads(curves, 0, "impressions", title)
    names = ("system", "metric", "impressions")
    return Figure(
        name="warm-up",
        title=WARM_UP,
        finding=finding,
        panels=panels,
        sheet=_sheet(table, names, "value"),
        commands=commands,
        note="The test rows walked in time order: of each new item its own past alone is known.",
    )


def retention(source: Source) -> Made:
    """Share of pinnacle rows still scored right as negative feedback comes in."""
    path = source.run / "prompt" / source.config.backbone.kind / source.config.prompt.name / "retention.parquet"
    commands = [source.command("tools.prompt", "--retention")]
    if not path.exists():
        return NotRun(RETENTION, commands)
    table = _read(path)
    curves = list(_curves(table, "step", "share"))
    return Figure(
        name="retention",
        title=RETENTION,
        finding=_leads(curves, -1, "negative rows", "share remembered"),
        panels=[_panel(curves, "share remembered", "bands: 95 % intervals", "negative feedback rows since")],
        sheet=_sheet(table, ("system", "step"), "share"),
        commands=commands,
        note="Pinnacle rows that were scored right at step 0, and still are.",
    )


def _replayed(source: Source) -> pa.Table:
    """system, metric, impressions, value, low, high of the segments `seen=<impressions>`."""
    rows = [
        (system, metric, int(segment.removeprefix(_SEEN)), *triple)
        for metric in ("auc", "gauc")
        for segment, by_system in source.results.metric(source.results.systems, metric).items()
        if segment.startswith(_SEEN)
        for system, triple in by_system.items()
    ]
    names = ("system", "metric", "impressions", "value", "low", "high")
    table = pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})
    return table.sort_by([("system", "ascending"), ("metric", "ascending"), ("impressions", "ascending")])


def _read(path: Path) -> pa.Table:
    """The rows, by system and step.

    Raises:
        InputError: no Parquet, no rows, a column missing or of another type, a null, or an interval that does not hold
            its value.
    """
    names, x, numbers = ("system",), "step", ("share", "low", "high")
    tables = [table for _, table in read_groups(path, [*names, x, *numbers])]
    table = pa.concat_tables(tables) if tables else pa.table({})
    if not table.num_rows:
        raise InputError(f"{path}: expected rows, found none")
    kinds = dict.fromkeys(names, pa.string()) | {x: pa.int64()} | dict.fromkeys(numbers, pa.float64())
    fits = {pa.string(): _is_text, pa.int64(): pa.types.is_integer, pa.float64(): pa.types.is_floating}
    for name, kind in kinds.items():
        found = table.schema.field(name).type
        if not fits[kind](found) or table[name].null_count:
            raise InputError(f"{path}: column {name!r}: expected {kind} without nulls, found {found}")
    table = pa.table({name: table[name].cast(kind) for name, kind in kinds.items()})
    table = table.sort_by([(name, "ascending") for name in (*names, x)])
    middle, low, high = (table[name].to_numpy() for name in numbers)
    wrong = ~((low <= middle) & (middle <= high) & np.isfinite(high - low))
    if wrong.any():
        k = int(np.argmax(wrong))
        raise InputError(f"{path}: row {table.slice(k, 1).to_pylist()[0]}: expected low <= share <= high")
    return table


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _curves(table: pa.Table, x: str, value: str) -> Iterator[Curve]:
    names = pc.unique(table["system"]).to_pylist()
    looks = styles(names)
    for name in names:
        rows = table.filter(pc.equal(table["system"], name))
        columns = (rows[column].to_numpy().astype(np.float64) for column in (x, value, "low", "high"))
        yield Curve(name, looks[name], *columns)


def _panel(curves: list[Curve], title: str, under: str, x_label: str) -> Panel:
    told = listed([f"{one.name} from {one.value[0]:.3f} to {interval(_at(one, -1))}" for one in curves])
    draw = partial(lines.draw, curves=curves, title=title, under=under, x_label=x_label)
    return Panel(f"{title} against {x_label}: {told}.", lines.HEIGHT, draw)


def _leads(curves: list[Curve], k: int, unit: str, title: str) -> str:
    """Who is highest at the k-th x, beside base."""
    best = max(curves, key=lambda one: one.value[k])
    told = f"At {best.x[k]:,.0f} {unit} {best.name} is highest, {title} {interval(_at(best, k))}"
    base = next((one for one in curves if one.name == "base"), None)
    return told + ("." if base is None or base is best else f"; base {interval(_at(base, k))}.")


def _at(curve: Curve, k: int) -> tuple[float, float, float]:
    return float(curve.value[k]), float(curve.low[k]), float(curve.high[k])


def _sheet(table: pa.Table, names: tuple[str, ...], value: str) -> Sheet:
    rows = [
        [*(f"{row[name]:,}" if isinstance(row[name], int) else row[name] for name in names),
         interval([row[value], row["low"], row["high"]], ".4f")]
        for row in table.to_pylist()
    ]  # fmt: skip
    return Sheet([*names, f"{value}, 95 % interval"], rows)
