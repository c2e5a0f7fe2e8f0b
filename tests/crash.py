"""Kill -9 a piece of work at any of its fsyncs and renames, each time in a forked child of a warm process.

    names = points(folder, work, *args)             # a dry run, which has done the work
    for point in chosen(names):
        kill(point, other, work, *args)             # on a fresh copy of what the work begins with
        ...                                         # what is there now must be the old state or the new one

A point is a call of `os.fsync`, `os.rename` or `os.replace` (`pathlib` and `torch.distributed.checkpoint` go through
them) on a path below a folder, named by its order and its path in it; before the call or after it. Nothing in the
product knows of any of this. `work` is a module-level function of an importable module, as for `run_ranks`.

`KILLS` in the environment is how many kills there are over all the works of the tests: 20 unless it is set.
"""

import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import RanksFailed, run_ranks

WORKS = 6
"""Works that share the kills: a checkpoint's save, a delta's writing, its application, compaction, proxies,
simulated rows."""
_OWN = re.compile(r"\.\d+\.(?=tmp|old)")


def points(folder: Path, work: Callable[..., object], *args: Any) -> list[str]:
    """Do the work and name its points in order, such as `07 after rename step-00000002.partial -> step-00000002`."""
    [found] = run_ranks(1, _do, folder, work, args, None)
    return found


def kill(point: str, folder: Path, work: Callable[..., object], *args: Any) -> None:
    """Do the work until the point and die there by SIGKILL.

    Raises:
        AssertionError: it did not come to that point.
    """
    with pytest.raises(RanksFailed, match=r"\(exit code -9\)"):
        run_ranks(1, _do, folder, work, args, point)


def chosen(names: list[str], cases: int = 1) -> list[str]:
    """The points to kill one of a work's so many cases at: spread evenly, or all of them and some more at random."""
    count = round(int(os.environ.get("KILLS", "20")) / WORKS / cases)
    if count < len(names):
        return [names[k * (len(names) - 1) // max(count - 1, 1)] for k in range(count)]
    return names + random.choices(names, k=count - len(names))


def _do(folder: Path, work: Callable[..., object], args: tuple[Any, ...], last: str | None) -> list[str]:
    seen: list[str] = []

    def reached(call: str) -> None:
        seen.append(f"{len(seen):02d} {call}")
        if seen[-1] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("fsync", "rename", "replace"):
        _watch(name, folder, reached)
    work(*args)
    return seen


def _watch(name: str, folder: Path, reached: Callable[[str], None]) -> None:
    original = getattr(os, name)

    def watched(*given: Any, **named: Any) -> Any:
        names = [os.readlink(f"/proc/self/fd/{one}") if isinstance(one, int) else one for one in given]
        paths = [Path(os.path.abspath(each)) for each in names]
        inside = all(path.is_relative_to(folder) for path in paths)
        call = f"{name} " + " -> ".join(_OWN.sub(".PID.", os.path.relpath(path, folder)) for path in paths)
        if inside:
            reached(f"before {call}")
        result = original(*given, **named)
        if inside:
            reached(f"after {call}")
        return result

    setattr(os, name, watched)
