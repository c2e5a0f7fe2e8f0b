"""AUC and other metrics by feedback: every system with its interval, and paired differences."""

from collections.abc import Sequence
from functools import partial

from recsys.evaluate.report import TITLES, TOO_FEW
from recsys.evaluate.segments import BUCKETS
from recsys.report import forest
from recsys.report.figure import Figure, Made, NotRun, Panel, Sheet, interval, listed
from recsys.report.forest import Line
from recsys.report.palette import styles
from recsys.report.source import Source, Table, Triple

NAMES = {"auc": "AUC", "gauc": "AUC within users (GAUC)"}
SIGNED = "+.4f"


def levels(source: Source, metric: str) -> Made:
    """Every system by segment."""
    title = f"{NAMES[metric]} by feedback"
    found = source.results.metric(source.results.systems, metric)
    drawn = _drawn(list(found))
    if not drawn:
        return NotRun(title, source.evaluations())
    return Figure(
        name=metric,
        title=title,
        finding=_highest(source, metric, drawn[0], found[drawn[0]]),
        panels=_panels(source, {segment: found[segment] for segment in drawn}, metric, signed=False),
        sheet=_sheet(source.results.systems, metric, ".4f"),
        commands=source.evaluations(),
        note="Bars are 95 % intervals, users and items resampled; the dotted rule is base.",
    )


def differences(source: Source, metric: str) -> Made:
    """Every paired difference by segment."""
    title = f"Differences in {NAMES[metric]}, paired"
    found = source.results.metric(source.results.differences, metric)
    drawn = _drawn(list(found))
    if not drawn:
        return NotRun(title, source.evaluations())
    every = [(triple, f"{name}, {words(segment)}") for segment in drawn for name, triple in found[segment].items()]
    above, below = sum(triple[1] > 0 for triple, _ in every), sum(triple[2] < 0 for triple, _ in every)
    (least, worst), (most, best) = min(every), max(every)
    finding = (
        f"Of {len(every)} differences {above} lie above zero with their whole interval, {below} below. "
        f"Largest: {best}, {interval(most, SIGNED)}. Smallest: {worst}, {interval(least, SIGNED)}."
    ).replace(" - ", " − ")
    return Figure(
        name=f"{metric}-differences",
        title=title,
        finding=finding,
        panels=_panels(source, {segment: found[segment] for segment in drawn}, metric, signed=True),
        sheet=_sheet(source.results.differences, metric, SIGNED),
        commands=source.evaluations(),
        note="Both systems on the same rows under the same resamples. Hollow: the 95 % interval holds zero.",
    )


def kept(segment: str) -> int | None:
    """Rows of feedback in `n=<k>`; None for another segment."""
    return int(segment[2:]) if segment.startswith("n=") and segment[2:].isdigit() else None


def words(segment: str) -> str:
    """A segment, for people."""
    if (rows := kept(segment)) is not None:
        return f"new items, {rows} rows of feedback" if rows else "new items, no feedback yet"
    if segment in {name for name, *_ in BUCKETS}:
        return f"items with {segment.replace('-', '–')} training rows"
    return f"{segment} items"


def _highest(source: Source, metric: str, segment: str, by_system: dict[str, Triple]) -> str:
    """The system with the highest value, beside base, and whether their difference can be told from zero."""
    best = max(by_system, key=lambda name: by_system[name][0])
    told = f"{words(segment).capitalize()}: {best} is highest, {TITLES[metric]} {interval(by_system[best])}"
    if "base" not in by_system or best == "base":
        return told + "."
    told += f"; base {interval(by_system['base'])}."
    paired = source.results.differences.get(f"{best} - base", {}).get(segment, {}).get(metric)
    if isinstance(paired, tuple):
        zero = "holds zero" if paired[1] <= 0 <= paired[2] else "leaves zero out"
        told += f" Paired, that is {interval(paired, SIGNED)}, which {zero}."
    return told


def _panels(source: Source, found: dict[str, dict[str, Triple]], metric: str, signed: bool) -> list[Panel]:
    names = list(dict.fromkeys(name for by_system in found.values() for name in by_system))
    looks = styles([name.split(" - ")[0] for name in names])
    left = forest.margin(name.replace(" - ", "−") for name in names)
    span = forest.limits([triple for by_system in found.values() for triple in by_system.values()])
    form = SIGNED if signed else ".3f"
    panels = []
    for segment, by_system in found.items():
        lines = []
        for name, triple in by_system.items():
            look, hollow = looks[name.split(" - ")[0]], signed and triple[1] <= 0 <= triple[2]
            lines.append(Line(name.replace(" - ", "−"), look, triple, form, hollow))
        title, counts = words(segment), _counts(source, segment)
        told = listed([f"{line.name} {interval(line.triple, form)}" for line in lines])
        reference = 0.0 if signed else by_system["base"][0] if "base" in by_system else None
        draw = partial(forest.draw, lines=lines, left=left, span=span, title=title, under=counts, reference=reference)
        panels.append(Panel(f"{TITLES[metric]}, {title} ({counts}): {told}.", forest.height(len(lines)), draw))
    return panels


def _drawn(segments: Sequence[str]) -> list[str]:
    """The segments that are drawn, in the order of their feedback; all are in the table."""
    exposed = sorted((one for one in segments if kept(one) is not None), key=lambda one: kept(one) or 0)
    natural = [name for name, *_ in BUCKETS if name in segments]
    return [*exposed, *natural, *(one for one in segments if one == "all")] or [
        one for one in segments if not one.startswith("seen")
    ]


def _counts(source: Source, segment: str) -> str:
    """Of the first system that has the segment: all are judged on the same rows."""
    for by_segment in source.results.systems.values():
        if segment in by_segment:
            entry = by_segment[segment]
            return f"{entry.get('rows', 0):,} rows, {entry.get('users', 0):,} users"
    return ""


def _sheet(table: Table, metric: str, form: str) -> Sheet:
    rows = []
    for system, by_segment in table.items():
        for segment, entry in by_segment.items():
            triple = entry.get(metric)
            cell = interval(triple, form) if isinstance(triple, tuple) else TOO_FEW
            rows.append([system, segment, *(f"{entry.get(key, 0):,}" for key in ("rows", "users")), cell])
    return Sheet(["system", "segment", "rows", "users", f"{TITLES[metric]}, 95 % interval"], rows)
