"""Do the steps of a pipeline that have to be done, each in a process of its own."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recsys.errors import InputError
from recsys.files import locked, remove
from recsys.pipeline import launch, records
from recsys.pipeline.digests import Digests
from recsys.pipeline.plan import Reason, plan, require_done, to_remove
from recsys.pipeline.records import Record
from recsys.pipeline.steps import Command, named

Launch = Callable[[str, Path, Collection[int]], float]


def run(
    folder: Path,
    steps: Sequence[Command],
    first: str | None = None,
    until: str | None = None,
    start: Launch = launch.launch,
) -> None:
    """Do what has to be done, in order; a killed pipeline goes on where it was.

    Args:
        folder: the run folder, which keeps the records.
        first: this step and all after it again, done or not, on what those before it have left.
        until: the last step.
        start: runs a command, its output to a log, as `recsys.pipeline.launch.launch` does.

    Raises:
        InputError: no such step, a step failed (with its name, command and log), or one before `first` is not done.
    """
    asked, taken = named(steps, first, until)
    again = {step.name for step in asked} if first else set()
    with _alone(records.folder_of(folder)) as lock:
        require_done(steps, records.read(folder), taken)
        ran: set[str] = set()
        while todo := _todo(folder, steps, asked, again, taken):
            step, reason = todo[0]
            if step.name in ran:
                raise InputError(f"{step.name}: has run, and would have to run again: {reason.text}")
            _do(folder, steps, step, reason, lambda command, log: start(command, log, [lock]))
            ran.add(step.name)
            again.discard(step.name)
        print(f"{len(asked)} steps done, {len(asked) - len(ran)} of them before")


def show(folder: Path, steps: Sequence[Command], first: str | None = None, until: str | None = None) -> None:
    """Print of every step whether it is done or would run, why, and its command; as `run`, which it does not do.

    Raises:
        InputError: as `run`, but for failures.
    """
    asked, taken = named(steps, first, until)
    require_done(steps, records.read(folder), taken)
    again = {step.name for step in asked} if first else set()
    why = {step.name: reason for step, reason in _todo(folder, steps, asked, again, taken)}
    for step in steps:
        said = "done" if step in asked else "not asked for"
        if step.name in why:
            said = f"would run: {why[step.name].text}"
        print(f"{_place(steps, step)}: {said}\n    {step.command}")


def _todo(
    folder: Path, steps: Sequence[Command], asked: Sequence[Command], again: Collection[str], taken: Collection[str]
) -> list[tuple[Command, Reason]]:
    """The steps that have to run, in order."""
    digests = Digests(records.folder_of(folder) / "files.json")
    why = plan(steps, records.read(folder), cache(digests.of), again, taken)
    if folder.exists():
        digests.save()
    return [(step, why[step.name]) for step in asked if step.name in why]


def _do(
    folder: Path, steps: Sequence[Command], step: Command, reason: Reason, start: Callable[[str, Path], float]
) -> None:
    home = records.folder_of(folder)
    digests = Digests(home / "files.json")
    record = Record(
        step=step.name,
        state="begun",
        command=step.command,
        arguments=step.arguments,
        values=step.values,
        inputs={path: digests.of(path) for path in step.contract.reads},
    )
    if gone := to_remove(step, reason.changed, _fresh(folder, steps[: list(steps).index(step)], digests)):
        records.write(folder, replace(record, state="cleared"))
        for path in gone:
            remove(Path(path))
    records.write(folder, record)
    log = home / f"{step.name}.log"
    print(f"{_place(steps, step)}: {step.command}", flush=True)
    with _progress(step.name):
        try:
            seconds = start(step.command, log)
        except InputError as error:
            raise InputError(f"{step.name}: {error}") from None
    outputs = {path: digests.of(path) for path in step.contract.writes}
    digests.save()
    records.write(folder, replace(record, state="done", outputs=outputs, seconds=round(seconds, 1)))
    said = launch.said(log)
    print(f"  {seconds:.0f} s. {said if step.show else said.rpartition(chr(10))[2]}", flush=True)


def _fresh(folder: Path, steps: Sequence[Command], digests: Digests) -> list[Command]:
    """Those that are done from what is there now; one that is taken as it stands may have read something else."""
    found = records.read(folder)
    return [
        step
        for step in steps
        if (record := found.get(step.name))
        and record.state == "done"
        and all(digests.of(path) == digest for path, digest in record.inputs.items())
    ]


def _place(steps: Sequence[Command], step: Command) -> str:
    return f"{list(steps).index(step) + 1}/{len(steps)} {step.name}"


@contextmanager
def _alone(home: Path) -> Iterator[int]:
    """Wait for another pipeline of this run, or for a step that a killed one has left, to end."""
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(home / ".lock", wait=False))
        except BlockingIOError:
            print(f"waiting for the pipeline that is at work in {home}", flush=True)
            lock = stack.enter_context(locked(home / ".lock"))
        yield lock


@contextmanager
def _progress(name: str) -> Iterator[None]:
    """A line with the time that a step has taken, on a terminal only."""
    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(name, total=None)
        yield
