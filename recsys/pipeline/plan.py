"""Which steps have to run, and why.

A step is done if its record says that it ran to its end with the same arguments, config values and inputs, and what it
wrote is still as it left it. Two things are not as in a makefile, because a run's log of deltas is changed in place:

- A step that ran before another one changed a path is held against what it read then, not against what is there now.
- If such a step has to run again, it must find the path as it was: then the step that made it runs again, too.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import InputError
from recsys.pipeline.contract import within
from recsys.pipeline.records import Record
from recsys.pipeline.steps import Command

Digest = Callable[[str], str | None]


@dataclass(frozen=True)
class Reason:
    """Why a step has to run.

    Attributes:
        changed: keys and paths that are others than when it was begun, so that what it has begun is of no use; None:
            all of it is to be made again.
    """

    text: str
    changed: frozenset[str] | None = frozenset()


def plan(
    steps: Sequence[Command],
    records: dict[str, Record],
    digest: Digest,
    again: Collection[str] = (),
    taken: Collection[str] = (),
) -> dict[str, Reason]:
    """The steps that have to run, in their order, and why.

    Only of the first is it certain: if it leaves what was there, steps that read it need not run.

    Args:
        again: steps that run even if they are done.
        taken: steps that do not run: what they left is taken as it stands.

    Raises:
        InputError: one that is taken would have to run, so that another finds what it needs.
    """
    forced = {name: Reason("asked for again", None) for name in again}
    while True:
        running = _walk([step for step in steps if step.name not in taken], steps, records, digest, forced)
        spoilt = _spoilt(steps, records, digest, running)
        if not spoilt:
            return running
        if wrong := spoilt.keys() & set(taken):
            name = wrong.pop()
            raise InputError(f"{name}: {spoilt[name].text}: begin there, by --from {name}")
        forced |= spoilt


def require_done(steps: Sequence[Command], records: dict[str, Record], taken: Collection[str]) -> None:
    """Refuse to take a step as it stands that has never been done.

    Raises:
        InputError: one has not; it is named.
    """
    for step in steps:
        if step.name in taken and (step.name not in records or records[step.name].state != "done"):
            raise InputError(f"{step.name} has not been done: begin there, by --from {step.name}")


def _walk(
    asked: Sequence[Command],
    steps: Sequence[Command],
    records: dict[str, Record],
    digest: Digest,
    forced: dict[str, Reason],
) -> dict[str, Reason]:
    running: dict[str, Reason] = {}
    for step in asked:
        before = [each for each in asked[: asked.index(step)] if each.name in running]
        own = forced.get(step.name) or _reason(steps, steps.index(step), records, digest)
        if reason := own or _follows(step, before):
            running[step.name] = reason
    return running


def _reason(steps: Sequence[Command], place: int, records: dict[str, Record], digest: Digest) -> Reason | None:
    """Why a step has to run even if none before it does."""
    step = steps[place]
    record = records.get(step.name)
    if record is None:
        return Reason("never done")
    if record.state == "cleared":
        return Reason("interrupted before it began", None)
    later = [each for each in steps[place + 1 :] if each.name in records]
    now = {path: _as_read(path, steps, place, records, digest) for path in step.contract.reads}
    told = _differences(step, record, now)
    if told:
        return Reason(next(iter(told.values())), frozenset(told))
    if record.state == "begun":
        return Reason("interrupted")
    for path in step.contract.writes:
        left = not any(path in each.contract.writes for each in later)
        if left and digest(path) != record.outputs.get(path):
            gone = digest(path) is None
            text = f"{path} is gone" if gone else f"{path} has been changed since"
            return Reason(text, frozenset([path]) if gone else frozenset())
    return None


def _differences(step: Command, record: Record, now: dict[str, str | None]) -> dict[str, str]:
    """Words on each key and path that is another than the record has."""
    told = {}
    if step.arguments != record.arguments:
        told["arguments"] = f"its arguments were {record.arguments!r}"
    for key in sorted(step.values.keys() | record.values.keys()):
        before, value = record.values.get(key), step.values.get(key)
        if before != value:
            told[key] = f"{key} was {before}, is {value}"
    for path in sorted(now.keys() | record.inputs.keys()):
        if path not in now or path not in record.inputs:
            told[path] = f"it reads {path}" if path in now else f"it read {path}"
        elif now[path] != record.inputs[path]:
            told[path] = f"{path} is not what it read"
    return told


def _follows(step: Command, running: Sequence[Command]) -> Reason | None:
    """A step before it is about to write what it reads, or writes on."""
    for earlier in running:
        for path in (*step.contract.reads, *step.contract.writes):
            if any(_overlap(path, written) for written in earlier.contract.writes):
                return Reason(f"{path} is made again by {earlier.name}", frozenset([path]))
    return None


def _as_read(path: str, steps: Sequence[Command], place: int, records: dict[str, Record], digest: Digest) -> str | None:
    """What a path held when the step's turn came: what is there, unless a later step has changed it."""
    if _changed_later(path, steps, place, records):
        for earlier in reversed(steps[:place]):
            if path in earlier.contract.writes and earlier.name in records:
                return records[earlier.name].outputs.get(path)
    return digest(path)


def _spoilt(
    steps: Sequence[Command], records: dict[str, Record], digest: Digest, running: dict[str, Reason]
) -> dict[str, Reason] | None:
    """The step that must run again because one that has to run no longer finds what it wrote; None: all do."""
    for place, step in enumerate(steps):
        for path in step.contract.reads if step.name in running else ():
            if not _changed_later(path, steps, place, records):
                continue
            makers = [each for each in steps[:place] if path in each.contract.writes]
            if makers and not any(each.name in running for each in makers):
                maker = makers[-1].name
                if digest(path) != records[maker].outputs.get(path):
                    return {maker: Reason(f"{step.name} needs {path} as it was then", None)}
    return None


def _changed_later(path: str, steps: Sequence[Command], place: int, records: dict[str, Record]) -> bool:
    later = (each for each in steps[place + 1 :] if each.name in records)
    return any(path in each.contract.writes for each in later)


def _overlap(one: str, other: str) -> bool:
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def to_remove(step: Command, changed: frozenset[str] | None, before: Sequence[Command] = ()) -> list[str]:
    """What is removed before the step is done with other inputs than it was begun with; not what one of the steps
    before it, which are done, has begun from the same."""
    return [
        path
        for path, causes in step.contract.begins.items()
        if (changed is None or (changed and (not causes or any(within(each, causes) for each in changed))))
        and not any(_begun_alike(path, each, step) for each in before)
    ]


def _begun_alike(path: str, earlier: Command, step: Command) -> bool:
    causes = step.contract.begins[path]
    if earlier.contract.begins.get(path) != causes or not (causes or earlier.contract.reads == step.contract.reads):
        return False
    first, second = (
        {key: value for key, value in each.values.items() if not causes or within(key, causes)}
        for each in (earlier, step)
    )
    return first == second
