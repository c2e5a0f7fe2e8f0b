"""The stage: rows of new items by the lifecycle's policy, and scores by them, at an exposure or along a replay.

<run>/lifecycle/<name>/n=<exposure>/rows.parquet, scores.parquet     after so many kept rows of each new item
<run>/lifecycle/<name>/replay/scores.parquet                        each test row by what had been seen before it
"""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from recsys import runs
from recsys.coldrows.frozen import Frozen
from recsys.coldrows.learned import About, Learned
from recsys.coldrows.rescore import rescore, under
from recsys.coldrows.scores import base_scores, chunks, require_agreement, score, scored
from recsys.config import Config
from recsys.data.schema import read_info, split_files
from recsys.distributed import Ranks, of_first, on_first
from recsys.errors import InputError
from recsys.evaluate import arrivals
from recsys.evaluate.arrivals import Arrivals
from recsys.evaluate.scores import REPLAY
from recsys.floor import kept
from recsys.lifecycle import feedback
from recsys.lifecycle.sources import Sources
from recsys.rivals.rows import write_scores
from recsys.tables import checkpoint

SCORES = "scores.parquet"


def at_exposure(config: Config, exposure: int, ranks: Ranks) -> Path:
    """Score the test rows after `exposure` kept rows of each new item; returns the folder. Collective.

    What has been done for the same settings and base is left out.

    Raises:
        InputError: the run is not of this config and dataset, has no checkpoint or no scores of its test rows, the
            dataset keeps fewer rows of new items, or a stage has nothing to take its rows from.
    """
    dataset, folder = Path(config.data.path), _folder(config) / f"n={exposure}"
    key, base = of_first(ranks, lambda: _begin(config, exposure, exposure))
    items = kept.new_items(dataset)
    rows = of_first(ranks, lambda: Learned.found(folder, key))
    frozen = None
    if rows is None:
        started = time.perf_counter()
        frozen = Frozen.load_locked(config, items, ranks)
        found = Sources(frozen, items, split_files(dataset, "feedback"), base).blended(exposure)
        told = {"stages": [asdict(stage) for stage in config.lifecycle.stages], "sources": found.found}
        about = About(key=key, base=base, found=told, seconds=round(time.perf_counter() - started, 1))
        rows = Learned(items, found.vectors, about)
        on_first(ranks, lambda: rows.save(folder))
    if not of_first(ranks, lambda: scored(folder / SCORES, key)):
        score(frozen or Frozen.load_locked(config, items, ranks), rows, folder / SCORES, exposure)
    return folder


def replay(config: Config, ranks: Ranks) -> Path:
    """Score each test row of a new item by what had been seen of the item before it; returns the folder. Collective.

    The log of test rows is walked in time order; after 1, 2, 4, ... impressions (`lifecycle.replay`) an item is given
    its row anew, from its first 1, 2, 4, ... test rows. Rows of other items keep the run's own scores.

    Raises:
        InputError: as `at_exposure`.
    """
    dataset, folder = Path(config.data.path), _folder(config) / "replay"
    key, base = of_first(ranks, lambda: _begin(config, REPLAY, config.lifecycle.replay[-1]))
    if of_first(ranks, lambda: scored(folder / SCORES, key)):
        return folder
    items = kept.new_items(dataset)
    log = of_first(ranks, lambda: arrivals.read(dataset, items))
    given = folder / "feedback.parquet"
    on_first(ranks, lambda: feedback.write(dataset, log, config.lifecycle.replay[-1], given))
    frozen = Frozen.load_locked(config, items, ranks)
    scores = base_scores(config, ranks)
    require_agreement(frozen, scores)
    _walk(frozen, Sources(frozen, items, [given], base), log, scores)
    told = {"dataset": read_info(dataset).fingerprint, "exposure": REPLAY, "key": key}
    on_first(ranks, lambda: write_scores(folder / SCORES, chunks(scores), **told))
    return folder


def _walk(frozen: Frozen, sources: Sources, log: Arrivals, scores: np.ndarray) -> None:
    """Overwrite the scores [test rows], on the first rank, of the log's rows. Collective."""
    config = frozen.encoder.config
    known = [0, *config.lifecycle.replay]
    stage = np.full(int(log.row_id[-1]) + 1, -1)
    stage[log.row_id] = np.searchsorted(known, log.seen, side="right") - 1
    for number, most in enumerate(known):
        rows = sources.blended(most).vectors.to(frozen.ranks.device)
        score_of, wanted = under(frozen, rows), stage == number
        for row_id, found in rescore(frozen, score_of, "test", config.evaluate.batch_size, wanted):
            if frozen.ranks.is_first:
                scores[row_id] = found


def _folder(config: Config) -> Path:
    return Path(config.run) / "lifecycle" / config.lifecycle.name


def _begin(config: Config, given: int | str, most: int) -> tuple[str, str]:
    """Look at what must be there; a digest of all that the rows depend on, and their base.

    given: the exposure, or that it is a replay. most: rows of feedback that an item is read by.
    """
    runs.bring_up(config)
    kept.check(Path(config.data.path), 0 if given == REPLAY else most)
    if most > config.prompt.summary.rows:
        raise InputError(
            f"prompt.summary.rows={config.prompt.summary.rows}: expected {most} or more, which are asked for"
        )
    base = checkpoint.version_of(checkpoint.best(Path(config.run) / "checkpoints")).base
    parts = [asdict(each) for each in (config.lifecycle, config.prompt.summary, config.floor)]
    taught = Learned.read(Path(config.run) / "simulator" / config.simulator.name) if _simulates(config) else None
    told = [given, parts, taught and taught.about.key, base, read_info(config.data.path).fingerprint]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest(), base


def _simulates(config: Config) -> bool:
    return any(stage.source == "simulated" for stage in config.lifecycle.stages)
