"""Simulated interactions become rows of the ranker's item table: the last step of the simulator.

    <run>/simulator/<name>/simulated.parquet     what is learned from, if no other is named
    <run>/simulator/<name>/rows.parquet          the new items' rows, optimised against the frozen ranker
    <run>/simulator/<name>/scores.parquet        the run's scores of its test rows, those of these items by their rows
    <run>/deltas/...                             the rows in the run's tables, at last

All new items are one small dense matrix E, so the optimisation costs what its rows cost, however large the table is.
What the log of the run and the items' features cannot tell is held by a prior (`recsys.coldrows.tune`): noisy rows move
an item along the few directions in which warm items differ. A killed command goes on with the file that is missing.

`simulator.update.mode=joint` trains a ranker of its own instead (`simulator.joint`).
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import runs
from recsys.coldrows.frozen import Frozen, require_new
from recsys.coldrows.learned import About, Learned
from recsys.coldrows.prior import Prior, unknown_prior
from recsys.coldrows.publish import publish
from recsys.coldrows.scores import score, scored
from recsys.coldrows.tune import Floats, finetune
from recsys.config import Config
from recsys.data.encode import Block
from recsys.data.reader import concat
from recsys.data.schema import read_info
from recsys.distributed import Ranks, of_first, on_first, together
from recsys.errors import InputError
from recsys.floor import kept
from recsys.floor.content import content_file, ridge_prior
from recsys.tables import checkpoint
from recsys.tables.delta import Delta
from simulator import balance, interactions, joint, simulated, states
from simulator.interactions import Interactions
from simulator.joint import SCORES
from simulator.population import training_users

SOURCE = "simulate"
"""What deltas say of the rows."""


@dataclass(frozen=True)
class Updated:
    """Where the results are; `delta` and `about` are None where there is none."""

    folder: Path
    about: About | None = None
    delta: Delta | None = None


def update(config: Config, ranks: Ranks) -> Updated:
    """Learn rows from the simulated interactions, score the test rows with them, publish them. Collective.

    Each step is left out where it has been done for the same interactions, settings and base.

    Raises:
        InputError: the run is not of this config and dataset, or has no checkpoint or no scores of its test rows; the
            interactions are not as they should be; the dataset keeps fewer rows of new items than the exposure.
    """
    folder = simulated.folder_of(config)
    key, base = of_first(ranks, lambda: _begin(config))
    if config.simulator.update.mode == "joint":
        if not of_first(ranks, lambda: scored(folder / SCORES, key)):
            pairs = of_first(ranks, lambda: _pairs(config))
            joint.retrain(config, pairs, key, folder, ranks)
        return Updated(folder)
    frozen = None
    rows = of_first(ranks, lambda: Learned.found(folder, key))
    if rows is None:
        frozen, rows = _learn(config, key, base, ranks)
        on_first(ranks, lambda: rows.save(folder))
    if not of_first(ranks, lambda: scored(folder / SCORES, key)):
        score(
            frozen or Frozen.load_locked(config, rows.items, ranks),
            rows,
            folder / SCORES,
            config.simulator.update.exposure,
        )
    found: list[Delta | None] = [None]

    def bring_in() -> None:
        found[0] = publish(config, rows, folder, SOURCE)

    if config.simulator.update.publish:
        on_first(ranks, bring_in)
    return Updated(folder, rows.about, found[0])


def _source(config: Config) -> Path:
    named = config.simulator.update.simulated
    return Path(named) if named else simulated.folder_of(config) / simulated.ROWS


def _begin(config: Config) -> tuple[str, str]:
    """Look at what must be there, before anything is made; a digest of all that the rows depend on, and their base."""
    runs.bring_up(config)
    dataset, options = Path(config.data.path), config.simulator.update
    kept.check(dataset, options.exposure)
    path = _source(config)
    try:
        with path.open("rb") as file:
            source = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: no simulated interactions: {error.strerror}") from None
    base = checkpoint.version_of(checkpoint.best(Path(config.run) / "checkpoints")).base
    content = asdict(config.floor) if options.start == "ridge" else None
    told = [
        source,
        asdict(replace(options, publish=True, simulated=None)),
        base,
        read_info(dataset).fingerprint,
        content,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest(), base


def _pairs(config: Config) -> Interactions:
    dataset, options, path = Path(config.data.path), config.simulator.update, _source(config)
    pairs = interactions.read(path, training_users(dataset), options, config.data.label.rule == "observed")
    require_new(config, pairs.items, path)
    if options.mode == "frozen" and options.balance:
        pairs = pairs.of_both_classes()
        if not len(pairs):
            raise InputError(f"{path}: expected an item with a Yes and a No, or simulator.update.balance=false")
    return pairs


def _learn(config: Config, key: str, base: str, ranks: Ranks) -> tuple[Frozen, Learned]:
    """Rows of all items that have any pairs, or at the exposure real rows. Collective."""
    started, options = time.perf_counter(), config.simulator.update
    pairs = together(lambda: _pairs(config))
    items = pairs.items
    if options.exposure:
        real = kept.kept_table(Path(config.data.path), options.exposure, ["item_id"])["item_id"].cast(items.type)
        items = pc.unique(pa.concat_arrays([items, *real.chunks]))
        items = items.take(pc.sort_indices(items))
    frozen = Frozen.load_locked(config, items, ranks)
    prior = _prior(config, frozen)
    block, weight = _rows(config, frozen, pairs, prior)
    tuned = finetune(
        frozen,
        block,
        prior,
        strength=options.prior,
        tolerance=options.tolerance,
        max_passes=options.max_passes,
        batch_size=config.evaluate.batch_size,
        weight=weight,
    )
    about = About(
        key=key,
        base=base,
        found={
            "simulated": len(pairs),
            "kept": tuned.examples - len(pairs),
            "gradient_steps": tuned.steps,
            "passes": tuned.passes,
            "converged": tuned.converged,
        },
        seconds=round(time.perf_counter() - started, 1),
    )
    return frozen, Learned(items, tuned.rows.cpu(), about)


def _prior(config: Config, frozen: Frozen) -> Prior:
    if config.simulator.update.start == "ridge":
        return ridge_prior(frozen, content_file(config, frozen.ranks), config.floor.ridge)[0]
    return unknown_prior(frozen)


def _rows(config: Config, frozen: Frozen, pairs: Interactions, prior: Prior) -> tuple[Block, Floats]:
    """This rank's share of the rows, simulated and then real, and their weights. Collective."""
    options, ranks, encoder = config.simulator.update, frozen.ranks, frozen.encoder
    begin, end = (len(pairs) * k // ranks.world_size for k in (ranks.rank, ranks.rank + 1))
    block = encoder.encode(states.simulated(config.data, pairs, slice(begin, end), encoder.columns()), begin)
    weight = np.full(len(block), options.weight, np.float32)
    if options.balance:
        weight *= balance.weights(frozen, block, prior.start, config.evaluate.batch_size)
    real = kept.kept_rows(encoder, options.exposure, ranks.rank, ranks.world_size)
    if real is None:
        return block, weight
    return concat([block, real]), np.concatenate([weight, np.ones(len(real), np.float32)])
