"""What to try next, by Optuna's tree-structured Parzen estimator: a function of the trials so far and a seed alone.

A study is made in memory for each question and told all trials that have ended, so a search that was interrupted asks
what it would have asked, and nothing of Optuna's has to be kept.
"""

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from recsys.config_search import Space
from recsys.trials.space import Params, distributions, inside, outside

STARTUP = 5
"""Trials that have ended well before which the next ones are drawn at random."""
_DRAWS = 100
"""Draws without a new configuration after which a space counts as used up."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(
    space: Space, trials: Sequence[tuple[Params, float | None]], seed: int, maximise: bool = True
) -> Params | None:
    """A configuration that is none of the trials'; None where no other was found.

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
    tried = [params for params, _ in trials]
    for _ in range(_DRAWS):
        asked = study.ask(known)
        params = outside(space, asked.params)
        if params not in tried:
            return params
        study.tell(asked, state=TrialState.FAIL)
    return None
