"""A search for each system, with the same number of trials for all."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from recsys import settings
from recsys.config import Config
from recsys.rivals.grids import BASE, SPACES, default
from recsys.trials.known import of_dataset, of_ranker
from recsys.trials.search import Asked, Plan, Search, Trial, digest, run
from recsys.trials.space import Params


def key_of(system: str, params: Params, config: Config, ranks: int = 2) -> str:
    """12 hex digits that differ wherever the trial's result may: system, parameters, seed, dataset, and of the config
    what the system reads.

    ranks: that the base trains on.

    Raises:
        InputError: parameters that the base's config does not take.
    """
    if system == BASE:
        return digest([system, of_ranker(settings.with_values(config, params), ranks)])
    about = {"system": system, "params": params, **of_dataset(config), "seed": config.train.seed}
    if system != "means":
        about |= {"reads": [config.model.history, config.model.history_labels]}
        about["features"] = [asdict(feature) for feature in config.features]
    return digest(about)


def search(
    system: str,
    config: Config,
    budget: int,
    path: Path,
    train: Callable[[Params], float],
    say: Callable[[str], None] = partial(print, flush=True),  # noqa: B008
    ranks: int = 2,
) -> list[Trial]:
    """The system's `budget` trials, less those that failed, best validation AUC first; trains (`train` gives that AUC)
    those that the journal `path` does not have.

    Which configurations are tried depends on the space and the trials before, not on the seed of the weights.

    ranks: that the base trains on.

    Raises:
        InputError: the default cannot be trained.
    """
    plan = Plan(
        system=system,
        space=SPACES[system],
        default=default(system, config),
        budget=budget,
        key=lambda params: key_of(system, params, config, ranks),
    )
    trials = Search(plan, path)

    def tell(asked: Asked, auc: float | None, seconds: float, failed: str) -> None:
        trials.tell(asked, auc, seconds, failed)
        found = failed if auc is None else f"valid AUC {auc:.4f}"
        say(f"{system} {asked.number + 1}/{budget}: {found}, {seconds:.0f} s, {asked.params}")

    run(trials.ask, train, tell)
    return trials.ranked()
