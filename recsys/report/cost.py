"""What each step took: seconds, and items an hour where it works item by item.

Of a pipeline's steps (<run>/pipeline/steps.jsonl) it is the whole command; what no pipeline has done tells of itself,
or is in `seconds` of results.json.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import FigureBase

from recsys.coldrows.learned import NAME, Learned
from recsys.data.vectors import opened
from recsys.errors import InputError
from recsys.floor import about as floor
from recsys.pipeline import records
from recsys.pipeline.records import Record
from recsys.report import forest
from recsys.report.drawing import axes_of, beside, head, short
from recsys.report.figure import WIDTH, Figure, Made, NotRun, Panel, Sheet
from recsys.report.palette import COLOURS, INK
from recsys.report.source import Source, read_json

TITLE = "What it costs"
_TOP, _LINE = 48, 27
"""CSS pixels of a title, and of a bar."""


class Step(NamedTuple):
    """A step that was timed; `items` None where it does not go by items."""

    name: str
    seconds: float
    items: int | None = None

    @property
    def per_hour(self) -> float | None:
        """Items an hour."""
        return 3600 * self.items / self.seconds if self.items and self.seconds else None


def make(source: Source) -> Made:
    """Seconds, and items an hour.

    Raises:
        InputError: a step's record is damaged.
    """
    done = [record for record in records.read(source.run).values() if record.state == "done"]
    steps = sorted([*map(_step, done), *_others(source, done)], key=lambda step: -step.seconds)
    if not steps:
        return NotRun(TITLE, source.evaluations())
    timed = [(step.name, step.seconds, _duration(step.seconds)) for step in steps]
    rated = [(step.name, step.per_hour, f"{step.per_hour:,.0f}") for step in steps if step.per_hour]
    shown = [("seconds", "of the step's last run", timed)]
    shown += [("items an hour", "steps that go item by item", rated)] if rated else []
    panels = [
        Panel(
            f"{title}: {', '.join(f'{name} {text}' for name, _, text in bars)}.",
            _TOP + _LINE * len(bars),
            partial(_draw, bars=bars, title=title, under=under),
        )
        for title, under, bars in shown
    ]
    rows = [
        [step.name, f"{step.seconds:,.1f}", *(f"{one:,.0f}" if one else "" for one in (step.items, step.per_hour))]
        for step in steps
    ]
    total = sum(step.seconds for step in steps)
    return Figure(
        name="cost",
        title=TITLE,
        finding=f"{steps[0].name} takes longest, {_duration(steps[0].seconds)} of {_duration(total)} that were timed.",
        panels=panels,
        sheet=Sheet(["step", "seconds", "items", "items an hour"], rows),
        commands=[record.command for record in done] or source.evaluations(),
        note="On the machine of this run, of each step the last time that it ran; one that tells no time is not here.",
    )


def _step(record: Record) -> Step:
    """A step of a pipeline, with the items that its results are of."""
    counts = (_items(Path(path)) for path in record.outputs)
    return Step(record.step, record.seconds, next((count for count in counts if count), None))


def _items(path: Path) -> int | None:
    """How many items a result is of: as it says itself, or by its rows; None: it is of something else."""
    if path.is_dir():
        told = (read_json(path / floor.NAME) or {}).get("items")
        return told if isinstance(told, int) else _items(path / NAME)
    if path.suffix != ".parquet" or not path.exists():
        return None
    with opened(path) as file:
        return file.metadata.num_rows if "item_id" in file.schema_arrow.names else None


def _others(source: Source, done: Sequence[Record]) -> Iterator[Step]:
    """The steps whose results no pipeline has left."""
    left = [path for record in done for path in record.outputs]
    for result, step in _told(source):
        if not any(result.is_relative_to(path) for path in left):
            yield step


def _told(source: Source) -> Iterator[tuple[Path, Step]]:
    """Results, and the steps that left them as these tell of themselves."""
    run, name = source.run, source.config.simulator.name
    for step, seconds in source.results.seconds.items():
        yield run / "results.json", Step(step, seconds)
    simulated = run / "simulator" / name
    for title, path in (
        ("simulate: filter", run / "simulator" / "filter" / "about.json"),
        ("simulate: users", simulated / "about.json"),
    ):
        if told := read_json(path):
            if not isinstance(told.get("seconds"), float | int):
                raise InputError(f"{path}: seconds: expected a number, found {told.get('seconds')!r}")
            yield simulated, Step(title, told["seconds"], told.get("items"))
    rows = [("simulate: update", simulated)]
    rows += [(f"prompt, {folder.name}", folder) for folder in sorted(run.glob("prompt/summary/n=*"))]
    for title, folder in rows:
        if learned := Learned.read(folder):
            yield folder, Step(title, learned.about.seconds, len(learned.items))
    for folder in sorted(run.glob("floor/*/n=*")):
        told_of = floor.read(folder)
        yield folder, Step(f"{told_of.name or told_of.system}, {folder.name}", told_of.seconds, told_of.items)


def _duration(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds < 100 else f"{seconds / 60:,.1f} min"


def _draw(host: FigureBase, bars: list[tuple[str, float, str]], title: str, under: str) -> None:
    height = _TOP + _LINE * len(bars)
    head(host, height, title, under)
    left, right = forest.margin(name for name, *_ in bars), 74
    axis = axes_of(host, height, left, right, top=_TOP, bottom=2)
    axis.set(xlim=(0, max(value for _, value, _ in bars) or 1), ylim=(len(bars) - 0.5, -0.5), xticks=[], yticks=[])
    axis.spines["bottom"].set_visible(False)
    for k, (name, value, text) in enumerate(bars):
        axis.barh(k, value, 0.5, color=COLOURS["slate"][0])
        row = axis.get_yaxis_transform()
        axis.text(-left / (WIDTH - left - right), k, short(name, 18), transform=row, va="center", color=INK)
        beside(axis, value, k, text, color=INK, size=11.5)
