"""Results of several draws of the held-out items as one: the mean over the draws.

Where each draw's replicates are there, replicate r of the mean is the mean of the draws' replicates r. A user or item
that several draws share is drawn equally often in all of them, so what their errors have in common is counted, and what
they have not is averaged out. Results without replicates have the means of the draws' own ends, which is right if the
draws' errors are wholly dependent, and too wide if not. How much a result moves with the weights that a seed draws is
in neither.
"""

from typing import Any

import numpy as np

from recsys.errors import InputError
from recsys.evaluate.bootstrap import ends

Results = dict[str, Any]
Entry = dict[str, Any]

JOINT, APART = "of the mean over the draws, users and items resampled alike in all", "ends averaged over the draws"
"""What a combined interval is, as the tables say it."""


def combine(draws: list[Results]) -> Results:
    """What the results of all draws have in common: `systems` and `differences` are means; `seeds` are listed.

    A metric, segment or system that one draw lacks (too few rows) is left out. `interval` says which of the two kinds
    all intervals are.

    Raises:
        InputError: results of several datasets or splits, or some of them without replicates.
    """
    combined = {key: draws[0][key] for key in ("dataset", "split")}
    for one in draws:
        for key, value in combined.items():
            if one[key] != value:
                raise InputError(f"draws of one {key} are expected, found {value!r} and {one[key]!r}")
    combined["seeds"] = [seed for one in draws for seed in one["seeds"]]
    joint = all(one.get("replicates") for one in draws)
    combined["interval"] = JOINT if joint else APART
    for key in ("systems", "differences"):
        tables = [one.get(key, {}) for one in draws]
        combined[key] = {
            name: {
                segment: _mean(draws, key, name, segment, joint)
                for segment in tables[0][name]
                if all(segment in table[name] for table in tables)
            }
            for name in tables[0]
            if all(name in table for table in tables)
        }
    return combined


def _mean(draws: list[Results], key: str, name: str, segment: str, joint: bool) -> Entry:
    """Means of values, and of counts, over the draws, with intervals."""
    entries = [one[key][name][segment] for one in draws]
    found: Entry = {}
    for metric in entries[0]:
        if all(metric in entry for entry in entries):
            middle = np.mean([entry[metric] for entry in entries], axis=0)
            found[metric] = middle.tolist() if middle.ndim else round(float(middle))
            if joint and middle.ndim:
                whole = np.mean([_replicates(one, key, name, segment, metric) for one in draws], axis=0)
                found[metric] = [float(middle[0]), *ends(whole).tolist()]
    return found


def _replicates(one: Results, key: str, name: str, segment: str, metric: str) -> np.ndarray:
    """[R] of a system, or of a difference `first - second`, whose replicates have the same weights."""
    systems = name.split(" - ") if key == "differences" else [name]
    try:
        first, *second = (one["replicates"][system][segment][metric] for system in systems)
    except KeyError:
        raise InputError(
            f"seed {one['seeds']}: {name}, {segment}, {metric}: expected replicates as elsewhere: evaluate it again"
        ) from None
    if not second:
        return first
    told = one[key][name][segment][metric][1:]
    if first.shape != second[0].shape or not np.allclose(told, ends(first - second[0]), rtol=0, atol=1e-9):
        raise InputError(
            f"seed {one['seeds']}: {name}, {segment}: judged under several evaluate.seed: evaluate it again"
        )
    return first - second[0]
