"""Systems by name: which are judged, which is the baseline, and their judgements as the tables of results.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.evaluate.bootstrap import Judged
from recsys.evaluate.replicates import Replicates

Counts = dict[str, int]


def named(arguments: list[str]) -> dict[str, Path]:
    """`name=PATH` or `PATH` (named after the file) as paths by system name.

    Raises:
        InputError: a name that is empty or there twice.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or Path(argument).exists():
            name, path = Path(argument).stem, argument
        if not name or not path:
            raise InputError(f"{argument!r}: expected NAME=PATH or PATH")
        if name in found:
            raise InputError(f"{argument!r}: there are two systems named {name!r}; give names as NAME=PATH")
        found[name] = Path(path)
    return found


def baseline_of(paths: dict[str, Path], baseline: str | None) -> str | None:
    """The system that the others are compared to; None asks for `base` where it is one of several.

    Raises:
        InputError: no such system.
    """
    if baseline is None:
        return "base" if "base" in paths and len(paths) > 1 else None
    if baseline not in paths:
        raise InputError(f"baseline {baseline!r}: expected one of the systems judged: {', '.join(paths)}")
    return baseline


def tables(
    names: list[str], baseline: str | None, metrics: Sequence[str], judged: dict[str, tuple[Judged | None, Counts]]
) -> dict[str, Any]:
    """`systems` and `differences` of results.json, from each segment's judgement (None: too few) and counts, and
    `replicates`, by system, segment and metric."""
    against = {} if baseline is None else {name: f"{name} - {baseline}" for name in names if name != baseline}
    systems: dict[str, dict[str, Any]] = {name: {} for name in names}
    differences: dict[str, dict[str, Any]] = {title: {} for title in against.values()}
    replicates: Replicates = {name: {} for name in names}

    def entry(intervals: NDArray[np.float64] | None, counts: Counts) -> dict[str, Any]:
        return {**({} if intervals is None else dict(zip(metrics, intervals.tolist(), strict=True))), **counts}

    for segment, (found, counts) in judged.items():
        for index, name in enumerate(names):
            systems[name][segment] = entry(None if found is None else found.interval(index), counts)
            if found is not None:
                replicates[name][segment] = dict(zip(metrics, found.replicates[:, index].T, strict=True))
            if baseline is not None and name in against:
                change = None if found is None else found.difference(index, names.index(baseline))
                differences[against[name]][segment] = entry(change, counts)
    return {"systems": systems, "differences": differences, "replicates": replicates}
