"""Results of several draws of the held-out items as one.

Draws share users and most rows, so their errors are not independent: an interval's ends are the means of the draws' own
ends. For the sampling of users and items that is right if the draws' errors are wholly dependent, and too wide if not;
how much a result moves with the weights a seed draws is not in it.
"""

from typing import Any

import numpy as np

from recsys.errors import InputError

Results = dict[str, Any]


def combine(draws: list[Results]) -> Results:
    """What the results of all draws have in common: `systems` and `differences` are means; `seeds` are listed.

    A metric, segment or system that one draw lacks (too few rows) is left out.

    Raises:
        InputError: results of several datasets or splits.
    """
    combined = {key: draws[0][key] for key in ("dataset", "split")}
    for one in draws:
        for key, value in combined.items():
            if one[key] != value:
                raise InputError(f"draws of one {key} are expected, found {value!r} and {one[key]!r}")
    combined["seeds"] = [seed for one in draws for seed in one["seeds"]]
    for key in ("systems", "differences"):
        tables = [one.get(key, {}) for one in draws]
        combined[key] = {
            name: {
                segment: mean([table[name][segment] for table in tables])
                for segment in tables[0][name]
                if all(segment in table[name] for table in tables)
            }
            for name in tables[0]
            if all(name in table for table in tables)
        }
    return combined


def mean(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of [value, low, high], and of counts, over the draws."""
    found: dict[str, Any] = {}
    for name in entries[0]:
        if all(name in entry for entry in entries):
            middle = np.mean([entry[name] for entry in entries], axis=0)
            found[name] = middle.tolist() if middle.ndim else round(float(middle))
    return found
