"""The trials of a search as a table, and each as a line."""

from collections.abc import Sequence

from recsys.config import Config
from recsys.trials.search import Trial
from recsys.trials.space import Params

TITLES = {"auc": "AUC", "gauc": "GAUC", "logloss": "log loss"}


def line(trial: Trial, config: Config) -> str:
    """What was tried, and what came of it."""
    found = f"failed: {trial.failed}" if trial.value is None else f"{TITLES[config.search.metric]} {trial.value:.4f}"
    return f"{found}, {trial.seconds:.0f} s, {_told(trial.params)}"


def markdown(trials: Sequence[Trial], best: Trial, config: Config) -> str:
    """A row a trial, in the order in which they were tried."""
    keys = list(config.search.space)
    head = ["trial", TITLES[config.search.metric], "s", *keys]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for number, trial in enumerate(trials, 1):
        value = "failed" if trial.value is None else f"{trial.value:.4f}"
        cells = [f"{number}", f"**{value}**" if trial is best else value, f"{trial.seconds:.0f}"]
        lines.append("| " + " | ".join([*cells, *(str(trial.params[key]) for key in keys)]) + " |")
    lines += [f"\nTrial {number} failed: {trial.failed}" for number, trial in enumerate(trials, 1) if trial.failed]
    return "\n".join(lines) + "\n"


def _told(params: Params) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())
