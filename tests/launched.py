"""A pipeline's commands in forked ranks of a warm process instead of cold ones, to their end or to their death."""

import importlib
import os
import shlex
import signal
from collections.abc import Collection
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import RanksFailed, run_ranks


def start(command: str, log: Path, held: Collection[int] = ()) -> float:
    """Run `torchrun -m tools.x ...` or `python -m tools.x ...` on one rank, in the working directory."""
    run_ranks(1, _call, os.getcwd(), *_split(command), log, 0)
    return 0.0


def kill(command: str, log: Path, renames: int) -> None:
    """The same, killed when it renames or replaces a file for the so many-th time."""
    with pytest.raises(RanksFailed, match=r"\(exit code -9\)"):
        run_ranks(1, _call, os.getcwd(), *_split(command), log, renames)


def _split(command: str) -> tuple[str, list[str]]:
    words = shlex.split(command)
    at = words.index("-m") + 1
    return words[at], words[at + 1 :]


def _call(home: str, module: str, arguments: list[str], log: Path, renames: int) -> None:
    os.chdir(home)
    if renames:
        _die_at(renames)
    with log.open("a") as out, redirect_stdout(out), redirect_stderr(out):
        out.write(f"\n$ {module}\n")
        importlib.import_module(module).main(arguments)


def _die_at(renames: int) -> None:
    left = [renames]

    def watched(original: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*given, **named)

        return call

    os.rename, os.replace = watched(os.rename), watched(os.replace)
