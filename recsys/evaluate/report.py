"""Tables of results: for the terminal and as Markdown. Each value stands with its 95 % interval."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.evaluate.results import COUNTS, is_ranking, metrics_of

TITLES = {
    "auc": "AUC",
    "gauc": "GAUC",
    "gauc_unweighted": "GAUC, users equal",
    "logloss": "log loss",
    "ne": "NE",
    "calibration": "calibration",
    "ranked_users": "ranked users",
}
"""Column heads; a metric that is not here goes by its own name."""

TOO_FEW = "too few"
WIDTH = 140
"""Characters in a line of a table that goes to a file or a pipe."""


def wide(console: Console | None = None) -> Console:
    """The console, with room for a table where it is no terminal."""
    console = console or Console()
    return console if console.is_terminal else Console(file=console.file, width=max(WIDTH, console.width))


def show(results: dict[str, Any], console: Console | None = None) -> None:
    """Print a table for each system, the paired differences, and how well scores are calibrated."""
    console = wide(console)
    seeds = ", ".join(map(str, results["seeds"]))
    console.print(f"{results['dataset']}, split {results['split']}, seed {seeds}")
    console.print("under each value its 95 % interval, resampling users and items")
    for name, by_segment in results["systems"].items():
        console.print(_table(name, by_segment, signed=False))
    for name, by_segment in results.get("differences", {}).items():
        console.print(_table(f"{name}, paired", by_segment, signed=True))
    _show_protocol(results, console)
    left_out = results.get("users_left_out", {})
    if left_out:
        counts = ", ".join(f"{segment} {count:,}" for segment, count in left_out.items())
        console.print(f"users left out of GAUC for having one class: {counts}")
    if results.get("reliability"):
        console.print(_reliability(results["reliability"]))


def markdown(
    results: dict[str, Any],
    metrics: list[str] | None = None,
    segments: list[str] | None = None,
    key: str = "systems",
) -> str:
    """A Markdown table, one line for each system and segment.

    metrics, segments: which, in this order; None is all that are there. key: `systems`, or `differences` for the
    paired differences.
    """
    signed = key == "differences"
    systems = results.get(key, {})
    entries = [entry for by_segment in systems.values() for entry in by_segment.values()]
    metrics = metrics or _metrics(entries)
    counts = _counts(entries, metrics)
    head = ["system", "segment", *(TITLES.get(column, column) for column in [*counts, *metrics])]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for name, by_segment in systems.items():
        for segment in segments or list(by_segment):
            if segment in by_segment:
                entry = by_segment[segment]
                cells = [_cell(entry, metric, signed, "{value} [{low}, {high}]") for metric in metrics]
                lines.append([name, segment, *(_count(entry, count) for count in counts), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(title: str, by_segment: dict[str, Any], signed: bool) -> Table:
    metrics = _metrics(list(by_segment.values()))
    counts = _counts(list(by_segment.values()), metrics)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("segment", no_wrap=True)
    for count in counts:
        table.add_column(TITLES.get(count, count), justify="right", no_wrap=True)
    for metric in metrics:
        table.add_column(TITLES.get(metric, metric), justify="right")
    if not metrics:
        table.add_column()
    for segment, entry in by_segment.items():
        cells = [_cell(entry, metric, signed, "{value}\n[dim]{low} {high}[/dim]") for metric in metrics] or [TOO_FEW]
        table.add_row(segment, *(_count(entry, count) for count in counts), *cells)
    return table


def _show_protocol(results: dict[str, Any], console: Console) -> None:
    for key, value in results.get("protocol", {}).items():
        text = ", ".join(f"{name} {count:,}" for name, count in value.items()) if isinstance(value, dict) else value
        console.print(f"{key}: {text}", style="dim")
    for name, counts in results.get("without_vector", {}).items():
        if any(counts.values()):
            text = ", ".join(f"{count:,} {of}" for of, count in counts.items())
            console.print(f"{name}: without a vector of their own: {text}")


def _reliability(by_system: dict[str, dict[str, list[list[float]]]]) -> Table:
    title = "reliability: mean score and share of positives"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("system", "segment", "rows", "score", "positives"):
        table.add_column(head, justify="left" if head in ("system", "segment") else "right", no_wrap=True)
    for name, by_segment in by_system.items():
        for segment, bins in by_segment.items():
            for index, (rows, score, positives) in enumerate(bins):
                titles = ("", "") if index else (name, segment)
                table.add_row(*titles, f"{rows:,.0f}", f"{score:.3f}", f"{positives:.3f}")
    return table


def _metrics(entries: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in metrics_of(entry)))


def _counts(entries: list[dict[str, Any]], metrics: list[str]) -> list[str]:
    """The counts that say what the metrics are of; without metrics, all that are there."""
    kinds = {is_ranking(metric) for metric in metrics} or {False, True}
    named = [count for kind in sorted(kinds) for count in COUNTS[kind]]
    return [count for count in named if any(count in entry for entry in entries)]


def _count(entry: dict[str, Any], count: str) -> str:
    return f"{entry[count]:,}" if count in entry else ""


def _cell(entry: dict[str, Any], metric: str, signed: bool, form: str) -> str:
    """The metric as text by `form`, such as "{value} [{low}, {high}]"."""
    if metric not in entry:
        judged = {is_ranking(key) for key in entry} - {is_ranking(key) for key in metrics_of(entry)}
        return TOO_FEW if is_ranking(metric) in judged else ""
    value, low, high = (f"{number:+.4f}" if signed else f"{number:.4f}" for number in entry[metric])
    return form.format(value=value, low=low, high=high)
