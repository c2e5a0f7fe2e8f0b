"""Commands as a user types them, each a process of its own whose output goes to a log."""

import ctypes
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

from recsys.distributed import one_thread, torchrun
from recsys.errors import InputError

_LAUNCHERS = {"python": lambda: [sys.executable], "torchrun": torchrun}
_DEATH = 1
"""PR_SET_PDEATHSIG."""
_GRACE = 10.0
"""Seconds that a command has to end in once it is asked to."""


def launch(command: str, log: Path, held: Collection[int] = ()) -> float:
    """Run a command to its end, what it prints appended to `log`; returns the seconds that it took.

    A command does not outlive this process for long, whichever way that ends.

    held: descriptors of locks that the command holds as well.

    Raises:
        InputError: it failed; the command and its log are named.
    """
    launcher, *rest = shlex.split(command)
    start = time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write(f"\n$ {command}\n")
        out.flush()
        process = subprocess.Popen(
            [*_LAUNCHERS[launcher](), *rest],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=one_thread(),
            pass_fds=tuple(held),
            preexec_fn=_die_with_the_caller,
        )
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code:
        raise InputError(f"{command}: ended with status {code}; see {log}")
    return time.perf_counter() - start


def said(log: Path) -> str:
    """What the log's last command printed."""
    return log.read_text(errors="replace").rpartition("\n$ ")[2].partition("\n")[2].strip()


def _die_with_the_caller() -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it
    if prctl:
        prctl(_DEATH, signal.SIGTERM)


def _end(process: subprocess.Popen) -> None:
    process.terminate()  # torchrun hands it on to its ranks
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
