"""What to try next, by Optuna's tree-structured Parzen estimator: a function of the trials so far and a seed alone.

A study is made in memory for each question and told all trials that have ended, so a search that was interrupted asks
what it would have asked, and nothing of Optuna's has to be kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from recsys.config_search import Space
from recsys.trials.space import Params, count, distributions, every, inside, outside

STARTUP = 5
"""Trials that have ended well before which the next ones are drawn at random."""
_REPEATS = 5
"""Draws of what was tried after which the next one is drawn from the rest: the estimator clings to what is good."""
_DRAWS = 100
"""Random draws without a new configuration after which a space that is not counted is used up."""
_COUNTED = 4096
"""Configurations of the largest space whose rest is listed."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(
    space: Space, trials: Sequence[tuple[Params, float | None]], seed: int, maximise: bool = True
) -> Params | None:
    """A configuration that is none of the trials'; None where there is no other.

    trials: parameters and value of each, oldest first; a value of None is of a trial that failed.
    """
    drawn = int(np.random.SeedSequence([seed, len(trials)]).generate_state(1)[0])
    sampler = TPESampler(n_startup_trials=STARTUP, seed=drawn)
    study = optuna.create_study(sampler=sampler, direction="maximize" if maximise else "minimize")
    known = distributions(space)
    for params, value in trials:
        if value is not None:
            told = inside(space, params)
            of = {name: known[name] for name in told}
            study.add_trial(optuna.trial.create_trial(value=value, params=told, distributions=of))
    tried = [_rounded(params) for params, _ in trials]
    for _ in range(_REPEATS):
        asked = study.ask(known)
        params = outside(space, asked.params)
        if _rounded(params) not in tried:
            return params
        study.tell(asked, state=TrialState.FAIL)
    return _another(space, tried, drawn)


def _another(space: Space, tried: list[Params], seed: int) -> Params | None:
    if count(space) <= _COUNTED:
        left = [params for params in every(space) if _rounded(params) not in tried]
        return left[np.random.default_rng(seed).integers(len(left))] if left else None
    study, known = optuna.create_study(sampler=RandomSampler(seed)), distributions(space)
    for _ in range(_DRAWS):
        params = outside(space, study.ask(known).params)
        if _rounded(params) not in tried:
            return params
    return None


def _rounded(params: Params) -> dict[str, Any]:
    """Values that can be compared: those of a stepped range may differ in their last bit."""
    return {name: float(f"{value:.12g}") if isinstance(value, float) else value for name, value in params.items()}
