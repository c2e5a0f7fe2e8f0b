"""A search of hyper-parameters that asks, is told, and writes each trial down as it ends.

The journal (`trials.jsonl`) gets a line as a trial begins and one as it ends. A search that was interrupted, or is
given a larger budget, goes on after those that it finds there, and a configuration that any search of the journal has
trained alike is not trained again; one that has ended its process twice is not begun a third time. Code is no part of
what a trial is known by: after changing it, delete the journal.
"""

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from recsys import journal
from recsys.config_search import Space
from recsys.errors import InputError
from recsys.trials.space import Params
from recsys.trials.suggest import suggest

_TIMES = 2
"""Processes that a trial may end."""


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried."""

    search: str
    """Of the searches in a journal, the one that it belongs to."""
    key: str
    """Digest of all that its value depends on."""
    system: str
    """What was trained."""
    params: Params
    value: float | None
    """What trials are compared by; None where it failed."""
    seconds: float
    failed: str = ""
    """Why."""


class Asked(NamedTuple):
    """A trial to be done."""

    number: int
    """From 0."""
    params: Params


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is searched."""

    system: str
    """What is trained."""
    space: Space
    default: Params
    """The first trial, whether or not the space has it."""
    budget: int
    """Trials in all, fewer where the space has fewer."""
    seed: int = 0
    maximise: bool = True
    key: Callable[[Params], str]
    """Digest of all that the value of a trial with these parameters depends on."""

    @property
    def name(self) -> str:
        """Digest of all that the order of trials depends on, the budget left out."""
        space = {
            name: choices if isinstance(choices, list) else asdict(choices) for name, choices in self.space.items()
        }
        return digest([self.system, space, self.default, self.seed, self.maximise, self.key(self.default)])


class Search:
    """A search, and its trials in a journal that only grows.

    Attributes:
        trials: those of the budget that have ended, oldest first.
    """

    def __init__(self, plan: Plan, path: Path) -> None:
        """Read the journal, which need not be there; a line that a crash cut off was never there, and one that names no
        search is passed over.

        Raises:
            InputError: a line that names a search, and is no trial.
        """
        self.plan, self.path = plan, path
        self._begun: Counter[str] = Counter()
        self._asked: str | None = None
        found = []
        try:
            for entry in journal.entries(path):
                if "begun" in entry:
                    self._begun[entry["begun"]] += 1
                elif "search" in entry:
                    found.append(Trial(**entry))
                    self._begun.pop(found[-1].key, None)
        except TypeError as error:
            raise InputError(f"{path}: not a journal of trials: {error}; remove it to search anew") from None
        self._known = {trial.key: trial for trial in found}
        self.trials = [trial for trial in found if trial.search == plan.name][: plan.budget]

    def ask(self) -> Asked | None:
        """The next trial, which is written down as begun; None where all are done.

        A configuration that cannot be, or has ended the process twice, is written down as failed. The default is not
        counted: a search whose default ends the process has nothing to go on with.
        """
        while len(self.trials) < self.plan.budget:
            params = self._next()
            if params is None:
                return None
            try:
                key = self.plan.key(params)
            except InputError as error:
                # Values that a range has and their keys do not take: no trial can be made of them.
                self._fail(digest(params), params, str(error))
                continue
            known = self._known.get(key)
            if known is None or (known.failed and not self.trials):
                asked = Asked(len(self.trials), params)
                if self._begin(asked, key):
                    return asked
                self._fail(key, params, "ended the process twice: it may be out of memory, or was killed")
                continue
            self._add(replace(known, search=self.plan.name))
        return None

    def _begin(self, asked: Asked, key: str) -> bool:
        if not asked.number or key == self._asked:
            return True
        if self._begun[key] == _TIMES:
            return False
        journal.append(self.path, {"begun": key, "number": asked.number})
        self._asked = key
        return True

    def _fail(self, key: str, params: Params, why: str) -> None:
        self._add(Trial(self.plan.name, key, self.plan.system, params, None, 0.0, why))

    def _next(self) -> Params | None:
        if not self.trials:
            return self.plan.default
        done = [(trial.params, trial.value) for trial in self.trials]
        return suggest(self.plan.space, done, self.plan.seed, self.plan.maximise)

    def tell(self, asked: Asked, value: float | None, seconds: float, failed: str = "") -> None:
        """Write down what came of a trial; it is on the disk when this returns."""
        plan = self.plan
        key = plan.key(asked.params)
        self._add(Trial(plan.name, key, plan.system, asked.params, value, round(seconds, 1), failed))

    def _add(self, trial: Trial) -> None:
        journal.append(self.path, asdict(trial))
        self._known[trial.key] = trial
        self.trials.append(trial)

    def ranked(self) -> list[Trial]:
        """The trials that did not fail, best first; of equal ones the older first."""
        sign = -1 if self.plan.maximise else 1
        return sorted((trial for trial in self.trials if trial.value is not None), key=lambda trial: sign * _of(trial))


def run(
    ask: Callable[[], Asked | None],
    train: Callable[[Params], float],
    tell: Callable[[Asked, float | None, float, str], None],
    everywhere: Callable[[Asked], bool] = lambda _: True,
) -> None:
    """Ask, train and tell until nothing is asked; of several ranks, each calls it with collective functions.

    A trial that ends in an `InputError` has failed, and the search goes on; the first one, the default, may not fail.

    everywhere: whether a trial that failed on this rank has failed on all of them.

    Raises:
        InputError: the default's, or one of some ranks alone: the others wait for them within the trial.
    """
    while (asked := ask()) is not None:
        start = time.perf_counter()
        value, failed = None, ""
        try:
            value = train(asked.params)
            if not math.isfinite(value):
                raise InputError(f"{value} is no value to compare trials by: expected a finite number")
        except InputError as error:
            if not asked.number or not everywhere(asked):
                raise
            value, failed = None, str(error)
        tell(asked, value, time.perf_counter() - start, failed)


def digest(about: Any) -> str:
    """12 hex digits of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _of(trial: Trial) -> float:
    assert trial.value is not None
    return trial.value
