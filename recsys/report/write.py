"""Make a report of a run: one HTML page, and every figure as a PNG beside it.

    <folder>/report.html     whole in itself: style and pictures are in it
    <folder>/<figure>.png    the same figures, on light paper

A figure whose input is not there is left out, and the page says what makes it.
"""

from collections.abc import Callable
from pathlib import Path

from recsys.config import Config
from recsys.errors import InputError
from recsys.files import replacing
from recsys.report import cost, curves, drawing, funnel, histograms, metrics, page, reliability, source, space
from recsys.report.figure import Figure, Made, NotRun, number
from recsys.report.page import Card
from recsys.report.source import Results, Source

PAGE = "report.html"
_MAKERS: tuple[Callable[[Source], list[Made]], ...] = (
    lambda run: [metrics.levels(run, "auc"), metrics.differences(run, "auc")],
    lambda run: [metrics.levels(run, "gauc"), metrics.differences(run, "gauc")],
    lambda run: [curves.warm_up(run), histograms.make(run), space.make(run)],
    funnel.make,
    lambda run: [curves.retention(run), reliability.make(run), cost.make(run)],
)


def write(config: Config, words: str, scores: dict[str, Path] | None = None, folder: Path | None = None) -> Path:
    """Make the report; returns its page. The folder is replaced, whole or not at all.

    words: config file and overrides, as on the command line. scores: predictions of systems that lie outside the run,
    by name. folder: None is `<run>/report`.

    Raises:
        InputError: no results.json, an input that is damaged or half written, or a folder that holds anything else.
    """
    folder = folder or Path(config.run) / "report"
    if folder.exists() and not (folder / PAGE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something else than a report: name a new folder")
    read = source.read(config, words, scores or {})
    made = [one for make in _MAKERS for one in make(read)]
    figures = [one for one in made if isinstance(one, Figure)]
    missing = [one for one in made if isinstance(one, NotRun)]
    command = read.command("tools.report", *(f"--scores {name}={path}" for name, path in (scores or {}).items()))
    text = page.render(read.results, cards(read.results), figures, missing, command)
    with replacing(folder) as partial:
        partial.mkdir()
        for figure in figures:
            drawing.save(figure, partial / f"{figure.name}.png")
        (partial / PAGE).write_text(text)
    return folder / PAGE


def cards(results: Results) -> list[Card]:
    """The highest AUC of new items with the least feedback, and of all."""
    found = results.metric(results.systems, "auc")
    exposed = sorted((rows, one) for one in found if (rows := metrics.kept(one)) is not None)
    segments = [one for _, one in exposed[:2]] or [one for one in found if one == "cold"]
    made = []
    for segment in segments + [one for one in found if one == "all"]:
        best = max(found[segment], key=lambda name: found[segment][name][0])
        value, low, high = found[segment][best]
        made.append(Card(number(value), f"AUC, {metrics.words(segment)}: {best} [{number(low)}, {number(high)}]"))
    return made
