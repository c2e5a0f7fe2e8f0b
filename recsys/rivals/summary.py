"""Several draws as one result, and the table that the README shows."""

from dataclasses import asdict
from typing import Any

from recsys.evaluate import draws
from recsys.rivals.grids import BASE
from recsys.trials.search import Trial

COUNTS = ("rows", "users")
SHOWN = (("warm", "auc"), ("warm", "gauc"), ("n=0", "auc"), ("n=0", "gauc"))
"""Columns of the table: (segment, metric)."""
TITLES = {
    BASE: "base",
    "means": "user and item means",
    "linear": "logistic regression",
    "deepfm": "DeepFM",
    "trees": "boosted trees (LightGBM)",
}

Entry = dict[str, Any]


def combine(found: dict[int, dict[str, Any]], trials: dict[str, list[Trial]], budget: int) -> dict[str, Any]:
    """results.json of all draws: `systems` and `differences` ("base - rival") are means over the draws.

    found: by seed, what `recsys.evaluate.pointwise.evaluate` gave with the base as the baseline.
    """
    together = draws.combine(list(found.values()))
    differences = {
        f"{BASE} - {name}": {segment: _negated(entry) for segment, entry in by_segment.items()}
        for name in together["systems"]
        if (by_segment := together["differences"].get(f"{name} - {BASE}"))
    }
    return {
        **together,
        "seeds": list(found),
        "differences": differences,
        "search": {name: _searched(tried, budget) for name, tried in trials.items()},
        "draws": {
            str(seed): {"systems": one["systems"], "differences": one["differences"]} for seed, one in found.items()
        },
        "seconds": {
            f"search {name}": round(sum(trial.seconds for trial in tried), 1) for name, tried in trials.items()
        },
    }


def markdown(results: dict[str, Any]) -> str:
    """The table, what it is of, and the configuration of each system."""
    number, warm = len(results["seeds"]), next(iter(results["systems"].values()))["warm"]
    search = results["search"]
    head = ["system", "trials", "valid AUC"]
    head += [f"{segment} {metric.upper()}; base − it" for segment, metric in SHOWN]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, by_segment in results["systems"].items():
        cells = [TITLES.get(name, name), f"{len(search[name]['trials'])} ({search[name]['seconds']:.0f} s)"]
        cells.append(f"{search[name]['valid_auc']:.4f}")
        for segment, metric in SHOWN:
            signed = _signed(results["differences"].get(f"{BASE} - {name}", {}).get(segment, {}), metric)
            cells.append("<br>".join(filter(None, [_plain(by_segment.get(segment, {}), metric), signed])))
        lines.append("| " + " | ".join(cells) + " |")
    chosen = [f"- {TITLES.get(name, name)}: {_settings(search[name]['best'])}" for name in results["systems"]]
    about = (
        f"{results['dataset']}, {results['split']}; {_count(number, 'draw')} of the held-out items (seeds "
        f"{', '.join(map(str, results['seeds']))}); {warm['rows']:,} warm rows and {warm['users']:,} users with both "
        f"classes a draw; two-way bootstrap 95 % intervals, {results['interval']}. Hyper-parameters were chosen "
        "on the cut made once more inside the training rows of the config's own draw, and reused on all. Chosen:"
    )
    return "\n".join([*lines, "", about, "", *chosen]) + "\n"


def _searched(tried: list[Trial], budget: int) -> dict[str, Any]:
    return {
        "budget": budget,
        "best": tried[0].params,
        "valid_auc": tried[0].value,
        "seconds": round(sum(trial.seconds for trial in tried), 1),
        "trials": [asdict(trial) for trial in tried],
    }


def _negated(entry: Entry) -> Entry:
    """`rival - base` as `base - rival`."""
    return {name: value if name in COUNTS else [-value[0], -value[2], -value[1]] for name, value in entry.items()}


def _plain(entry: Entry, metric: str) -> str:
    return f"{entry[metric][0]:.4f}" if metric in entry else "too few"


def _signed(entry: Entry, metric: str) -> str:
    if metric not in entry:
        return ""
    value, low, high = entry[metric]
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def _settings(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items()) or "the config as it stands"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
