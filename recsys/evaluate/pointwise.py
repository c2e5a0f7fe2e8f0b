"""Judge scores: every pointwise metric by segment with its interval, and the paired difference to a baseline."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config, Evaluate
from recsys.data.schema import Info, read_info
from recsys.errors import InputError
from recsys.evaluate import metrics
from recsys.evaluate.bootstrap import METRICS, Judged, Sample, judge
from recsys.evaluate.scores import Rows, read_rows, read_scores
from recsys.evaluate.segments import scored_items, segments, training_counts

Scores = dict[str, NDArray[np.float32]]


def evaluate(
    config: Config,
    scores: dict[str, Path] | None = None,
    split: str = "test",
    baseline: str | None = None,
    exposure: int = 0,
) -> dict[str, Any]:
    """Judge predictions of the split of `config.data.path`, all systems on the same rows under the same resamples.

    scores: predictions file or directory by system name; None is `<run>/scores/<split>` as `base`.
    baseline: the system that the others are compared to; None is `base` where it is one of several.
    exposure: kept rows of each new item that the systems consumed (see `recsys.evaluate.segments`).

    Returns the content of results.json:
        dataset, split, seeds: what was judged; seeds are the dataset's (they draw the held-out items).
        systems: {name: {segment: {metric: [value, low, high], "rows": N, "users": with both classes}}}; a segment with
            too few rows or users has no metrics.
        differences: {"name - baseline": the same shape}.
        users_left_out: {segment: users with one class only, which GAUC cannot use}.
        reliability: {name: {segment: [[rows, mean score, share of positives], ...]}} of the first segment.
        seconds: {"evaluate": s}.

    Raises:
        InputError: a dataset or predictions file that is not as it should be, or an unknown baseline.
    """
    started = time.perf_counter()
    dataset = Path(config.data.path)
    info = read_info(dataset)
    paths = {"base": Path(config.run) / "scores" / split} if scores is None else scores
    baseline = _baseline(paths, baseline)
    rows = read_rows(dataset, split)
    found = {name: read_scores(Path(path), len(rows.label), split, info.fingerprint) for name, path in paths.items()}
    masks = _segments(dataset, info, rows, exposure)
    results: dict[str, Any] = {
        "dataset": info.name,
        "split": f"{info.rule}/{split}",
        "seeds": [info.seed],
        **_judge_segments(rows, found, masks, baseline, config.evaluate),
        "reliability": _reliability(rows, found, *next(iter(masks.items()))),
    }
    return results | {"seconds": {"evaluate": round(time.perf_counter() - started, 1)}}


def named_scores(arguments: list[str]) -> dict[str, Path]:
    """`name=PATH` or `PATH` (named after the file) as the `scores` of `evaluate`.

    Raises:
        InputError: a name that is empty or there twice.
    """
    named: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or Path(argument).exists():
            name, path = Path(argument).stem, argument
        if not name or not path:
            raise InputError(f"scores {argument!r}: expected NAME=PATH or PATH")
        if name in named:
            raise InputError(f"scores {argument!r}: there are two systems named {name!r}; give names as NAME=PATH")
        named[name] = Path(path)
    return named


def _segments(dataset: Path, info: Info, rows: Rows, exposure: int) -> dict[str, NDArray[np.bool_]]:
    scored = scored_items(dataset, rows.items) if info.split == "exposure" else None
    return segments(rows, training_counts(dataset, rows.items), scored, exposure)


def _baseline(paths: dict[str, Path], baseline: str | None) -> str | None:
    if baseline is None:
        return "base" if "base" in paths and len(paths) > 1 else None
    if baseline not in paths:
        raise InputError(f"baseline {baseline!r}: expected one of the systems judged: {', '.join(paths)}")
    return baseline


def _judge_segments(
    rows: Rows, scores: Scores, masks: dict[str, NDArray[np.bool_]], baseline: str | None, options: Evaluate
) -> dict[str, Any]:
    names = list(scores)
    against = {} if baseline is None else {name: f"{name} - {baseline}" for name in names if name != baseline}
    systems: dict[str, dict[str, Any]] = {name: {} for name in names}
    differences: dict[str, dict[str, Any]] = {title: {} for title in against.values()}
    left_out: dict[str, int] = {}
    done: dict[bytes, _Segment] = {}
    for segment, mask in masks.items():
        # The same rows may have two names (`0` is `cold`): they are judged once.
        key = np.packbits(mask).tobytes()
        done[key] = done.get(key) or _judge_segment(rows, scores, mask, options, segment)
        left_out[segment], counts, judged = done[key]
        for index, name in enumerate(names):
            systems[name][segment] = _entry(None if judged is None else judged.interval(index), counts)
            if baseline is not None and name in against:
                change = None if judged is None else judged.difference(index, names.index(baseline))
                differences[against[name]][segment] = _entry(change, counts)
    return {"systems": systems, "differences": differences, "users_left_out": left_out}


class _Segment(NamedTuple):
    left_out: int
    counts: dict[str, int]
    judged: Judged | None
    """None where there are too few rows or users."""


def _judge_segment(rows: Rows, scores: Scores, mask: NDArray[np.bool_], options: Evaluate, title: str) -> _Segment:
    sample = Sample.of(rows.user[mask], rows.item[mask], rows.label[mask])
    users = sample.users_with_both()
    judged = None
    if len(sample.label) >= options.min_rows and users >= max(options.min_users, 1):
        judged = judge(sample, [score[mask] for score in scores.values()], options.replicates, options.seed, title)
    return _Segment(sample.users - users, {"rows": len(sample.label), "users": users}, judged)


def _entry(intervals: NDArray[np.float64] | None, counts: dict[str, int]) -> dict[str, Any]:
    measured = {} if intervals is None else dict(zip(METRICS, intervals.tolist(), strict=True))
    return {**measured, **counts}


def _reliability(rows: Rows, scores: Scores, segment: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
    label = rows.label[mask]
    tables = {name: metrics.reliability(score[mask], label) for name, score in scores.items()}
    return {name: {segment: np.stack(table, axis=1).tolist()} for name, table in tables.items()}
