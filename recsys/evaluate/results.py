"""results.json, the one shape in which every number leaves the project, and the same numbers for TensorBoard."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys.errors import InputError
from recsys.evaluate import replicates
from recsys.files import replacing

Segments = dict[str, Any]
"""What results hold of one system, by segment."""

COUNTS = {False: ("rows", "users"), True: ("positives", "ranked_users")}
"""Keys of a segment that are counts, of its pointwise metrics and of its ranking metrics (those with "@" in their
name); every other key is a metric: [value, low, high]."""

IDENTITY = ("dataset", "split", "seeds")
"""What all systems in one results.json share, or they could not be compared; where rankings were judged, also their
`protocol`."""


def read(path: Path) -> dict[str, Any]:
    """A results.json, and under `replicates` what lies beside it (`recsys.evaluate.replicates`).

    Raises:
        InputError: not there, not JSON, or not of the shape.
    """
    try:
        results = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such results") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    missing = [key for key in (*IDENTITY, "systems") if not isinstance(results, dict) or key not in results]
    if missing:
        raise InputError(f"{path}: not a results file: key {missing[0]!r} is missing")
    return results | {"replicates": replicates.read(path, results["systems"])}


def save(results: dict[str, Any], path: Path) -> None:
    """Merge into the file, atomically: other systems, and other segments of the same systems, stay as they are.

    In a segment of a system, pointwise and ranking metrics are replaced each as a whole, with their counts.

    Raises:
        InputError: the file holds results of another dataset, split, seed or ranking protocol.
    """
    if path.exists():
        before = read(path)
        shared, own = _identity(before), _identity(results)
        for key in shared.keys() & own.keys():
            if shared[key] != own[key]:
                raise InputError(f"{path}: holds {key} {shared[key]!r}, these are of {own[key]!r}; use another file")
        results = _merge(before, results)
    if behind := results.get("replicates"):
        replicates.save(behind, path)
    with replacing(path) as temporary:
        told = {key: value for key, value in results.items() if key != "replicates"}
        temporary.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")


def scalars(results: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """(`evaluate/<system>/<segment>/<metric>`, value) of every metric, and of its interval as `.../low`, `.../high`."""
    for system, by_segment in results["systems"].items():
        for segment, entry in by_segment.items():
            for metric, triple in metrics_of(entry).items():
                tag = f"evaluate/{system}/{segment}/{metric}"
                yield from zip((tag, f"{tag}/low", f"{tag}/high"), triple, strict=True)


def metrics_of(entry: dict[str, Any]) -> dict[str, list[float]]:
    """The metrics of a segment, counts left out; empty for a segment with too few rows or users."""
    return {name: value for name, value in entry.items() if name not in COUNTS[False] + COUNTS[True]}


def is_ranking(key: str) -> bool:
    """Whether a key of a segment belongs to its ranking metrics, not to its pointwise ones."""
    return "@" in key or key in COUNTS[True]


def log(results: dict[str, Any], directory: Path, step: int = 0) -> None:
    """Write `scalars` as TensorBoard events into the directory."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and judging a scores file needs no torch

    with SummaryWriter(str(directory)) as writer:
        for tag, value in scalars(results):
            writer.add_scalar(tag, value, step)


def _identity(results: dict[str, Any]) -> dict[str, Any]:
    protocol = {f"protocol, {key}": value for key, value in results.get("protocol", {}).items()}
    return {key: results[key] for key in IDENTITY} | protocol


def _merge(before: Any, after: Any) -> Any:
    """`after` laid over `before`, down to a system's segment."""
    merged = {**before, **after}
    for key in ("users_left_out", "without_vector", "seconds"):
        if key in merged:
            merged[key] = {**before.get(key, {}), **after.get(key, {})}
    for key, merge in _MERGED:
        old, new = before.get(key, {}), after.get(key, {})
        merged[key] = {name: merge(old.get(name, {}), new.get(name, {})) for name in {**old, **new}}
    return merged


def _replace(before: Segments, after: Segments) -> Segments:
    return {**before, **after}


def _merge_segments(before: Segments, after: Segments) -> Segments:
    merged = {**before, **after}
    for name in before.keys() & after.keys():
        replaced = {is_ranking(key) for key in after[name]}
        kept = {key: value for key, value in before[name].items() if is_ranking(key) not in replaced}
        merged[name] = {**kept, **after[name]}
    return merged


_MERGED = (
    ("systems", _merge_segments),
    ("differences", _merge_segments),
    ("replicates", _merge_segments),
    ("reliability", _replace),
    ("switches", _replace),
)
