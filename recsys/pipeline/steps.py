"""A pipeline's steps as commands, each with what it follows from: a pipeline file and what is typed behind it."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys import settings
from recsys.config import Config
from recsys.config_pipeline import Pipeline, Step
from recsys.errors import InputError
from recsys.pipeline.contract import Contract
from recsys.pipeline.contracts import RANKED, contract, leading
from recsys.storage import require_local


@dataclass(frozen=True)
class Command:
    """One step: its name, what is run as a user types it, and what it follows from.

    Attributes:
        values: of the config, by dotted key, those that its result depends on.
        arguments: the tool's switches.
    """

    name: str
    command: str
    values: dict[str, Any]
    arguments: str
    contract: Contract
    show: bool = False


def read(path: str, words: Sequence[str], ranks: int | None = None) -> tuple[Path, list[Command]]:
    """The run folder and the steps of a pipeline file.

    words: config files and keys that are given to every step on top of the file's own. ranks: in place of the file's.

    Raises:
        InputError: an unknown key or a value out of its range, no config, one that does not load, or one of data in
            object storage, whose changes are not seen.
    """
    pipeline = settings.parse_as(Pipeline, settings.read(path), path)
    given = [*shlex.split(pipeline.config), *words]
    if not given or not settings.is_file(given[0]):
        raise InputError(f"{path}: expected a config for its steps: name one behind it, such as configs/own-logs.yaml")
    run = _load(given).run
    count = ranks or pipeline.ranks
    return Path(run), [_command(step, shlex.split(pipeline.config), words, run, count) for step in pipeline.steps]


def named(steps: Sequence[Command], first: str | None, until: str | None) -> tuple[list[Command], set[str]]:
    """The steps from one to another, all of them where these are None; and the names of those before them.

    Raises:
        InputError: no such step (with the nearest there is), or the last comes before the first.
    """
    names = [step.name for step in steps]
    for switch, name in (("--from", first), ("--until", until)):
        if name is not None and name not in names:
            near = settings.nearest(name, names, 1)[0]
            raise InputError(f"{switch} {name}: no such step; did you mean {near!r}? Steps: {', '.join(names)}")
    begin = names.index(first) if first else 0
    end = names.index(until) + 1 if until else len(names)
    if end <= begin:
        raise InputError(f"--until {until}: comes before --from {first}")
    return list(steps[begin:end]), set(names[:begin])


def _command(step: Step, given: list[str], typed: Sequence[str], run: str, ranks: int) -> Command:
    own = shlex.split(step.config.replace("{run}", run))
    arguments = step.arguments.replace("{run}", run)
    words = _words(given, own, typed)
    config = _load(words)
    agreed = contract(step.tool, config, arguments)
    word, switches = leading(arguments)
    own_ranks = step.ranks or (ranks if step.tool in RANKED and not word else 1)
    launcher = f"torchrun --nproc-per-node {own_ranks}" if own_ranks > 1 else "python"
    parts = [launcher, f"-m tools.{step.tool}", word, shlex.join(words), switches]
    command = " ".join(part for part in parts if part)
    every = settings.flat(settings.plain(config))
    values = {key: value for key, value in every.items() if agreed.follows_from(key)}
    return Command(step.label, command, values, arguments, agreed, step.show)


def _words(given: list[str], own: list[str], typed: Sequence[str]) -> list[str]:
    """Files and keys of a step. What is typed wins, but over the keys that the step sets itself; each key once."""
    files = [word for word in typed if settings.is_file(word)]
    set_by_step = {_key(word) for word in own}
    keys = [word for word in typed if not settings.is_file(word) and _key(word) not in set_by_step]
    words = [*given, *files, *own, *keys]
    last = {_key(word): place for place, word in enumerate(words)}
    return [word for place, word in enumerate(words) if last[_key(word)] == place]


def _key(word: str) -> str:
    """What a word sets: a key, or a file by its name."""
    return word.partition("=")[0]


def _load(words: Iterable[str]) -> Config:
    first, *rest = words
    config = settings.load(first, rest)
    source = config.data.source
    require_local("data.path", config.data.path)
    for key, files in (("interactions", source.interactions), ("users", source.users), ("items", source.items)):
        require_local(f"data.source.{key}.path", files.path if files else "")
    return config
