"""The days of a log, one after the other: each is scored by the model of the days before, and then trained on.

    <run>/daily.json               what was found of the days so far, and which model each began from
    <run>/day-00007/               the run of a day; `data/` are links to its rows
    <run>/day-00007/daily/*.json   its stages that are done: lacks, begun, arrived, ahead, trained, followed, kept
    <run>/day-00007/scores/        what the stages ahead and kept judge, by system and split

A stage is made again unless its file is there, and leaves the same then: a loop that is killed anywhere and started
again ends as if nothing had happened. Nothing of a later day is read before a day is done.

A day that lacks what training needs (`recsys.data.days.lacking`) is scored by the model of the days before, and not
trained on: the next one goes on from the day before it.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recsys.config import Config
from recsys.daily import configs, measure
from recsys.daily.measure import OURS
from recsys.daily.same import same
from recsys.daily.start import start
from recsys.data import days as log_days
from recsys.data.compose import compose
from recsys.data.days import Day
from recsys.data.schema import MANIFEST
from recsys.distributed import Ranks, long_on_first, of_first, on_first
from recsys.errors import InputError
from recsys.files import remove, replacing
from recsys.pipeline.launch import launch
from recsys.tables import checkpoint
from recsys.tables.locks import training_together
from recsys.train import train

FILE = "daily.json"
NEVER = "never updated"
ANEW = "trained anew"
Told = dict[str, Any]


def daily(config: Config, ranks: Ranks) -> Path:
    """Go through the days of the config's log that are not done yet; the file with what was found. Collective.

    The file is written after each day, `complete` once all of the log's are in it.

    Raises:
        InputError: the log (`recsys.data.days.prepare`), fewer days than `daily.base` and one more, a day that is not
            sound, a tool of `daily.arrive` or `daily.follow` that fails, or runs begun otherwise
            (`recsys.daily.same`).
    """
    run = Path(config.run)
    with training_together(run, ranks):
        Loop(config, ranks).run()
    return run / FILE


class Loop:
    """The runs of a daily run, in the order of their days."""

    def __init__(self, config: Config, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        days, base = of_first(ranks, lambda: _prepared(config)), config.daily.base
        self.first, self.later = days[:base], days[base:]
        self.base = configs.first(config, self.first[-1])

    def run(self) -> None:
        """Train the first model, then go through the days after."""
        self._composed(self.base, self.first)
        self._done(self.base, "trained", lambda: self._trained(self.base))
        self._done(self.base, "kept", self._scored_early)
        runs, told = [self.base], []
        for place, day in enumerate(self.later):
            told.append(self._day(day, self.later[:place], runs))
            on_first(self.ranks, lambda: self._tell(told))
            self._prune(runs)

    def _tell(self, told: Sequence[Told]) -> None:
        """Say what was found of the newest day, and write it unless the file has come further before."""
        tqdm.write(line(told[-1]))
        path, complete = Path(self.config.run) / FILE, len(told) == len(self.later)
        before = len(json.loads(path.read_text())["days"]) if path.exists() else 0
        if complete or len(told) > before:
            first = {"days": len(self.first), "run": self.base.run}
            _write(path, {"complete": complete, "first": first, "days": told})

    def _day(self, day: Day, since: Sequence[Day], runs: list[Config]) -> Told:
        """One day, of which nothing has been seen before; `since` are those between the first model and it."""
        before, asked = runs[-1], self.config.daily
        now = of_first(self.ranks, lambda: configs.begun(configs.of_day(self.config, day)))
        on_first(self.ranks, lambda: same(now, [day]))
        lacks = self._done(now, "lacks", lambda: of_first(self.ranks, lambda: {"lacks": log_days.lacking(day.path)}))
        told: Told = {"day": day.number, "run": now.run, "data": day.fingerprint, "from": before.run, **lacks}
        if told["lacks"]:
            told["ahead"] = self._done(now, "ahead", lambda: self._ahead(day, since, before, now.run, before))
            return {**told, "trained": None}
        self._composed(now, [day], [*self.first, *since], asked.replay)
        told["begun"] = self._done(now, "begun", lambda: asdict(start(now, before, self.ranks)))
        self._done(now, "arrived", lambda: self._called(now, "arrive", asked.arrive))
        told["ahead"] = self._done(now, "ahead", lambda: self._ahead(day, since, before, now.run, now))
        told["trained"] = self._done(now, "trained", lambda: self._trained(now))
        self._done(now, "followed", lambda: self._called(now, "follow", asked.follow))
        runs.append(now)
        told["kept"] = self._done(now, "kept", lambda: self._kept([*since, day], runs))
        return told

    def _composed(self, made: Config, days: Sequence[Day], older: Sequence[Day] = (), share: float = 0.0) -> None:
        """Make what a run is trained on, unless it is there: what a later day replays may be another share."""
        parts, rest = [day.path for day in days], [day.path for day in older]

        def work() -> None:
            same(made, days)
            if not (Path(made.data.path) / MANIFEST).exists():
                compose(Path(made.data.path), parts, rest, share, made.train.seed)

        on_first(self.ranks, work)

    def _trained(self, made: Config) -> Told:
        progress = train(made, self.ranks)
        best = of_first(self.ranks, lambda: checkpoint.best(Path(made.run) / "checkpoints"))
        version = of_first(self.ranks, lambda: checkpoint.version_of(best))
        return {"version": version.name, "step": progress.step, "valid_auc": progress.best_auc}

    def _called(self, made: Config, when: str, commands: Sequence[str]) -> Told:
        """Call tools on a day's run, on one rank, in processes of their own."""
        run = Path(made.run)
        places = {"config": run / "config.yaml", "data": made.data.path, "run": run}
        words = {name: shlex.quote(str(path)) for name, path in places.items()}
        asked = [f"python -m tools.{command.format(**words)}" for command in commands]

        def call() -> None:
            for command in asked:
                launch(command, run / "daily" / "tools.log")

        long_on_first(self.ranks, f"{made.run} {when}", call)
        return {"commands": asked}

    def _ahead(self, day: Day, since: Sequence[Day], before: Config, run: str, ours: Config) -> Told:
        """Score a day by `ours` and others, into its folder `run`; `before` knows what was trained on before it."""
        systems = {OURS: ours, **({NEVER: self.base} if self.config.daily.never else {}), **self._anew(since)}
        splits = of_first(self.ranks, lambda: measure.present(day.path))
        folders = self._scored(systems, day.path, splits, Path(run) / "scores" / "ahead")
        return of_first(self.ranks, lambda: measure.ahead(day.path, before, folders))

    def _scored_early(self) -> Told:
        """The first model's scores of its own days' rows that were held back, which stay what they are."""
        folder = Path(self.base.run) / "scores"
        measure.score(self.base, Path(self.base.data.path), measure.KEPT, folder, self.ranks)
        return {"scores": str(folder)}

    def _kept(self, since: Sequence[Day], runs: Sequence[Config]) -> Told:
        systems, early = {OURS: runs[-1], **self._anew(since)}, Path(self.base.data.path)
        folders = self._scored(systems, early, measure.KEPT, Path(runs[-1].run) / "scores" / "kept")
        folders[NEVER] = Path(self.base.run) / "scores"
        trained, options = [Path(made.data.path) for made in runs[1:]], self.config.evaluate
        return of_first(self.ranks, lambda: measure.kept(early, trained, folders, options))

    def _anew(self, since: Sequence[Day]) -> dict[str, Config]:
        """The model that is trained anew after the days `since`, if one is asked for; one that is trained stays."""
        if not self._is_anew(since):
            return {}
        made = configs.anew(self.config, since[-1])
        self._composed(made, [*self.first, *since])
        train(made, self.ranks)
        return {ANEW: made}

    def _is_anew(self, since: Sequence[Day]) -> bool:
        every = self.config.daily.anew
        return bool(every and since) and (len(since) % every == 0 or len(since) == len(self.later))

    def _scored(
        self, systems: dict[str, Config], dataset: Path, splits: Sequence[str], folder: Path
    ) -> dict[str, Path]:
        folders = {name: folder / name.replace(" ", "-") for name in systems}
        for name, system in systems.items():
            measure.score(system, dataset, splits, folders[name], self.ranks)
        return folders

    def _done(self, made: Config, stage: str, work: Callable[[], Told]) -> Told:
        """What a stage has found, done unless it was. Collective, as the work is."""
        path = Path(made.run) / "daily" / f"{stage}.json"
        found = of_first(self.ranks, lambda: json.loads(path.read_text()) if path.exists() else None)
        if found is None:
            found = work()
            on_first(self.ranks, lambda: _write(path, found))
        return dict(found)

    def _prune(self, runs: Sequence[Config]) -> None:
        keep = self.config.daily.keep
        for made in runs[1:-keep] if keep else ():
            for run in (Path(made.run), configs.anew_beside(made)):
                on_first(self.ranks, partial(remove, run / "checkpoints"))


def _prepared(config: Config) -> list[Day]:
    """The days to go through, those of the first model first."""
    asked = config.daily
    days = log_days.prepare(config.data, asked.utc_offset)
    days = days if asked.last else days[:-1]
    if len(days) <= asked.base:
        raise InputError(f"{config.data.path}: daily.base={asked.base} of {len(days)} days: none is left after them")
    return days[: asked.base + asked.days] if asked.days else days


def line(told: Told) -> str:
    """What was found of a day, in a line."""
    parts = [f"day {told['day']}: {told['ahead']['all']['rows']:,} rows"]
    titles = [("ahead", "all", "ahead"), ("ahead", "new", "of new items")]
    if told["trained"]:
        titles.append(("kept", "all", "kept"))
    else:
        parts.append(f"not trained on: {told['lacks']}")
    for stage, segment, title in titles:
        found = told[stage][segment]
        each = [f"{name} {found[name][0]:.4f}" for name in (OURS, NEVER, ANEW) if name in found]
        parts.append(f"AUC {title}: {', '.join(each) or 'too few rows'}")
    return "; ".join(parts)


def _write(path: Path, told: Told) -> None:
    with replacing(path) as written:
        written.write_text(json.dumps(told, indent=1))
