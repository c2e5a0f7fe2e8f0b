"""Judge scores: every pointwise metric by segment with its interval, and the paired difference to a baseline."""

import shlex
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config, Evaluate
from recsys.data.schema import KEEPING, Info, read_info
from recsys.errors import InputError
from recsys.evaluate import metrics, systems
from recsys.evaluate.bootstrap import METRICS, Judged, Sample, judge
from recsys.evaluate.scores import REPLAY, Rows, read_rows, read_scores
from recsys.evaluate.segments import by_impressions, scored_items, segments, training_counts
from recsys.evaluate.ties import id_keys
from recsys.storage import Location, at

Scores = dict[str, NDArray[np.float32]]


By = Literal["training", "impressions"]


def evaluate(
    config: Config,
    scores: dict[str, Path] | None = None,
    split: str = "test",
    baseline: str | None = None,
    exposure: int = 0,
    only: list[str] | None = None,
    by: By = "training",
) -> dict[str, Any]:
    """Judge predictions of the split of `config.data.path`, all systems on the same rows under the same resamples.

    scores: predictions file or directory by system name; None is `<run>/scores/<split>` as `base`.
    baseline: the system that the others are compared to; None is `base` where it is one of several.
    exposure: kept rows of each new item that the systems consumed (see `recsys.evaluate.segments`).
    only: the segments to judge, of those that there are; None is all.
    by: segments by training rows and kept rows, or along a replay by the impressions that came before a row.

    Returns the content of results.json:
        dataset, split, seeds: what was judged; seeds are the dataset's (they draw the held-out items).
        systems: {name: {segment: {metric: [value, low, high], "rows": N, "users": with both classes}}}; a segment with
            too few rows or users has no metrics.
        differences: {"name - baseline": the same shape}.
        replicates: {name: {segment: {metric: [R]}}} behind the intervals.
        users_left_out: {segment: users with one class only, which GAUC cannot use}.
        reliability: {name: {segment: [[rows, mean score, share of positives], ...]}} of the first segment.
        switches: {name: {segment: the switches of the tools.evaluate that judges it so}}.
        seconds: {"evaluate": s}.

    Raises:
        InputError: a dataset or predictions file that is not as it should be, or an unknown baseline or segment.
    """
    if by == "impressions" and exposure:
        raise InputError(f"exposure={exposure}: expected 0 by impressions, of which a replay tells")
    if by == "impressions" and split != "test":
        raise InputError(f"split {split!r}: only test rows are replayed, by the impressions that came before")
    started = time.perf_counter()
    dataset = at(config.data.path)
    info = read_info(dataset)
    paths = {"base": Path(config.run) / "scores" / split} if scores is None else scores
    switches = _switches(scores, split, baseline, exposure, only, by)
    baseline = systems.baseline_of(paths, baseline)
    rows = read_rows(dataset, split)
    made_from = REPLAY if by == "impressions" else exposure
    found = {
        name: read_scores(Path(path), len(rows.label), split, info.fingerprint, made_from)
        for name, path in paths.items()
    }
    masks = _segments(dataset, info, rows, exposure, by)
    for segment in only or []:
        if segment not in masks:
            raise InputError(f"segment {segment!r}: expected one of {', '.join(masks)}")
    masks = {segment: mask for segment, mask in masks.items() if only is None or segment in only}
    sample = Sample.of(rows.user, rows.item, rows.label, id_keys(rows.users), id_keys(rows.items))
    judged = _judge_segments(sample, found, masks, config.evaluate)
    results: dict[str, Any] = {
        "dataset": info.name,
        "split": f"{info.rule}/{split}",
        "seeds": [info.seed],
        **systems.tables(list(paths), baseline, METRICS, {name: one[1:] for name, one in judged.items()}),
        "users_left_out": {name: one.left_out for name, one in judged.items()},
        "reliability": _reliability(rows, found, *next(iter(masks.items()))),
        "switches": {name: dict.fromkeys(masks, switches) for name in paths},
    }
    return results | {"seconds": {"evaluate": round(time.perf_counter() - started, 1)}}


def _switches(
    scores: dict[str, Path] | None, split: str, baseline: str | None, exposure: int, only: list[str] | None, by: By
) -> str:
    """What `tools.evaluate` is told for this, what it takes by default left out."""
    words = [word for name, path in (scores or {}).items() for word in ("--scores", f"{name}={path}")]
    words += ["--against", baseline] if baseline else []
    words += ["--split", split] if split != "test" else []
    words += ["--exposure", str(exposure)] if exposure else []
    words += [word for segment in only or [] for word in ("--only", segment)]
    words += ["--by", by] if by != "training" else []
    return shlex.join(words)


def _segments(dataset: Location, info: Info, rows: Rows, exposure: int, by: By) -> dict[str, NDArray[np.bool_]]:
    most = max(info.exposures, default=0)
    if exposure > most > 0:
        raise InputError(f"exposure={exposure}: {dataset} kept {most} rows of each new item at most")
    scored = scored_items(dataset, rows.items) if info.split in KEEPING else None
    if by == "impressions":
        if scored is None:
            raise InputError(f"{dataset}: expected the rule 'exposure' or 'warm-up', whose new items can be replayed")
        return by_impressions(dataset, rows, scored)
    return segments(rows, training_counts(dataset, rows.items), scored, exposure)


def _judge_segments(
    every: Sample, scores: Scores, masks: dict[str, NDArray[np.bool_]], options: Evaluate
) -> dict[str, "_Segment"]:
    done: dict[bytes, _Segment] = {}
    found: dict[str, _Segment] = {}
    for segment, mask in masks.items():
        # The same rows may have two names (`0` is `cold`): they are judged once.
        key = np.packbits(mask).tobytes()
        found[segment] = done[key] = done.get(key) or _judge_segment(every, scores, mask, options, segment)
    return found


class _Segment(NamedTuple):
    left_out: int
    judged: Judged | None
    """None where there are too few rows or users."""
    counts: dict[str, int]


def _judge_segment(every: Sample, scores: Scores, mask: NDArray[np.bool_], options: Evaluate, title: str) -> _Segment:
    sample = every.of(every.user[mask], every.item[mask], every.label[mask], every.user_key, every.item_key)
    users = sample.users_with_both()
    judged = None
    if len(sample.label) >= options.min_rows and users >= max(options.min_users, 1):
        judged = judge(sample, [score[mask] for score in scores.values()], options.replicates, options.seed, title)
    return _Segment(sample.users - users, judged, {"rows": len(sample.label), "users": users})


def _reliability(rows: Rows, scores: Scores, segment: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
    label = rows.label[mask]
    tables = {name: metrics.reliability(score[mask], label) for name, score in scores.items()}
    return {name: {segment: np.stack(table, axis=1).tolist()} for name, table in tables.items()}
