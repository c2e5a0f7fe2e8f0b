"""Random search with one budget for every system, journaled so that nothing is trained twice.

A trial is known by its key: system, parameters, seed, and all of the config and the dataset that its result depends on.
The journal (`trials.jsonl`) gets a line as each trial ends; a search that was interrupted, or is given a larger budget,
trains only what has no line. Code is not part of the key: after changing a rival, delete the journal.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recsys.config import Config
from recsys.data.schema import read_info
from recsys.errors import InputError
from recsys.rivals.grids import BASE, Params, configurations


@dataclass(frozen=True)
class Trial:
    """One trained configuration."""

    key: str
    system: str
    seed: int
    params: Params
    valid_auc: float
    seconds: float


def key_of(system: str, params: Params, config: Config) -> str:
    """12 hex digits that differ wherever the trial's result may."""
    data = config.data
    about: dict[str, Any] = {"system": system, "params": params, "data": data.path, "history": data.history}
    about["dataset"] = asdict(read_info(data.path))
    about["seed"] = config.train.seed
    if system == BASE:
        about |= {"model": asdict(config.model), "train": asdict(config.train), "item": config.item_capacity}
        about["features"] = [asdict(feature) for feature in config.features]
    elif system != "means":
        about |= {"reads": [config.model.history, config.model.history_labels]}
        about["features"] = [asdict(feature) for feature in config.features]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:12]


class Journal:
    """Trials that have ended, by key, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line that was cut off by a crash is passed over.

        Raises:
            InputError: any other line that is not a trial.
        """
        self.path = path
        self.trials: dict[str, Trial] = {}
        text = path.read_text() if path.exists() else ""
        lines = text.split("\n")
        self._torn = bool(lines[-1])
        for number, line in enumerate(lines[:-1], start=1):
            if not line:
                continue
            try:
                trial = Trial(**json.loads(line))
            except (TypeError, json.JSONDecodeError) as error:
                raise InputError(f"{path}: line {number}: not a trial: {error}") from None
            self.trials[trial.key] = trial

    def add(self, trial: Trial) -> None:
        """Append a trial and flush it to the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._torn:
            whole = self.path.read_text().rpartition("\n")
            self.path.write_text(whole[0] + whole[1])
            self._torn = False
        with self.path.open("a") as out:
            out.write(json.dumps(asdict(trial)) + "\n")
            out.flush()
            os.fsync(out.fileno())
        self.trials[trial.key] = trial


def search(
    system: str,
    config: Config,
    budget: int,
    journal: Journal,
    train: Callable[[Params], float],
    say: Callable[[str], None] = partial(print, flush=True),  # noqa: B008
) -> list[Trial]:
    """The system's `budget` trials, best validation AUC first; trains (`train` gives that AUC) those not journaled yet.

    Which configurations are drawn depends on system, budget and the grid only, not on the seed of the weights.
    """
    trials = []
    for number, params in enumerate(configurations(system, budget, seed=0), start=1):
        key = key_of(system, params, config)
        if key not in journal.trials:
            start = time.perf_counter()
            auc = train(params)
            journal.add(Trial(key, system, config.train.seed, params, auc, round(time.perf_counter() - start, 1)))
        trial = journal.trials[key]
        trials.append(trial)
        found = f"valid AUC {trial.valid_auc:.4f}, {trial.seconds:.0f} s"
        say(f"{system} {number}/{budget}: {found}, {params or 'as given'}")
    return sorted(trials, key=lambda trial: -trial.valid_auc)
