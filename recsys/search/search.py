"""A search of a user's own: a trial for each configuration that Optuna suggests, the config as it stands first.

    <run>/search/trials.jsonl      the trials, as they end
    <run>/search/trial-<key>/      the run of the trial that is being trained; of every trial under `search.keep`
    <run>/search/best.yaml         the best trial's values, to be laid over the config
    <run>/search/table.md          the trials

The ranker's trials are compared on split=valid; those of a system of the floor on new items that are made of training
rows (`recsys.search.rehearsal`). Of the test rows nothing but their soundness is looked at.
"""

from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from recsys import settings
from recsys.config import Config
from recsys.distributed import Ranks, come_together, of_first, on_first
from recsys.files import remove, replacing
from recsys.search import ranker, rehearsal
from recsys.search.keys import laid, resolved
from recsys.search.table import line, markdown
from recsys.tables.locks import training_together
from recsys.trials.known import of_file, of_ranker
from recsys.trials.search import Asked, Plan, Search, digest, run
from recsys.trials.space import Params

WITHIN = timedelta(seconds=60)
"""Of a trial's failure on one rank, that on the others."""


def search(config: Config, ranks: Ranks) -> Path:
    """Do the trials that are not done yet; the folder. Collective.

    A killed search goes on with the trial that it was in, from that one's last checkpoint.

    Raises:
        InputError: a space that is not as it should be, another process searches in this run, or the config as it
            stands cannot be trained. A later trial that fails is written down, and the search goes on.
    """
    folder = Path(config.run) / "search"
    with training_together(folder, ranks):
        return _Searched(config, folder, ranks).run()


class _Searched:
    """One search, on one rank of several; the first asks and writes."""

    def __init__(self, config: Config, folder: Path, ranks: Ranks) -> None:
        self.config, self.folder, self.ranks = config, folder, ranks
        space, default = of_first(ranks, lambda: resolved(config))
        asked = config.search
        self.plan = Plan(
            system=asked.system,
            space=space,
            default=default,
            budget=asked.trials,
            seed=asked.seed,
            maximise=asked.metric != "logloss",
            key=partial(_key, config, ranks.world_size),
        )
        # Of the first rank, the only one that asks it; what the others are given is not kept up.
        self.search = of_first(ranks, lambda: Search(self.plan, folder / "trials.jsonl"))

    def run(self) -> Path:
        inner = None if self.config.search.system == "ranker" else rehearsal.rehearsed(self.config, self.ranks)
        run(self._ask, partial(self._train, inner), self._tell, self._everywhere)
        on_first(self.ranks, self._finish)
        return self.folder

    def _ask(self) -> Asked | None:
        return of_first(self.ranks, lambda: self.search.ask())

    def _everywhere(self, asked: Asked) -> bool:
        return come_together(self.ranks, f"trial {asked.number}", WITHIN)

    def _train(self, inner: Config | None, params: Params) -> float:
        name = f"trial-{self.plan.key(params)}"
        made = settings.with_values(inner or self.config, params, "search.space")
        if inner:
            return rehearsal.objective(made, name, self.ranks)
        return ranker.objective(replace(made, run=str(self.folder / name)), self.ranks)

    def _tell(self, asked: Asked, value: float | None, seconds: float, failed: str) -> None:
        def tell() -> None:
            self.search.tell(asked, value, seconds, failed)
            print(f"{asked.number + 1}/{self.plan.budget}: {line(self.search.trials[-1], self.config)}", flush=True)
            self._prune()
            self._write()

        on_first(self.ranks, tell)

    def _prune(self) -> None:
        if not self.config.search.keep:
            # No trial is going on here, so those of another space that were killed are among them.
            for place in (self.folder, *self.folder.glob("base-*/floor")):
                for path in place.glob("trial-*"):
                    remove(path)

    def _write(self) -> None:
        best = self.search.ranked()[0]
        with replacing(self.folder / "best.yaml") as partial_:
            partial_.write_text(yaml.safe_dump(laid(self.config, best.params), sort_keys=False))
        with replacing(self.folder / "table.md") as partial_:
            partial_.write_text(markdown(self.search.trials, best, self.config))

    def _finish(self) -> None:
        self._prune()
        self._write()
        if len(self.search.trials) < self.plan.budget:
            print(f"{len(self.search.trials)} trials: the space has no other configuration")


def _key(config: Config, ranks: int, params: Params) -> str:
    """Of all that a trial's value depends on."""
    made, asked = settings.with_values(config, params, "search.space"), config.search
    about: list[Any] = [of_ranker(made, ranks), asked.system, asked.metric]
    if asked.system != "ranker":
        floor = made.floor
        about += [asked.exposure, asdict(floor), of_file(floor.content), asdict(made.data.split)]
    return digest(about)
