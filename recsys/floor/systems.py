"""The floor: simple systems for new items, each scoring every test row after `exposure` kept rows of each new item.

    means      logit of the smoothed user mean plus that of the smoothed item mean; 0 gradient steps
    finetune   the trained base, frozen, with ID rows for the new items fine-tuned on their kept rows to convergence;
               at exposure 0 they are the trained unknown row, so it is the base
    ridge      the same, started at what closed-form ridge makes of the items' content; 0 gradient steps at exposure 0

    <run>/floor/<name>/n=<exposure>/scores.parquet, about.json

Nothing of a test row but its inputs is read, and of a new item's other rows only the kept ones. `finetune` and `ridge`
copy the base's own scores for the rows of all other items: 5 bytes a test row are held, less than evaluation takes.

On MovieLens-1M the prior's strength (`configs/movielens-1m.yaml`) was chosen on another draw of MovieLens-1M's new
items (split seed 3, one trained base), by AUC and GAUC of `finetune` on the new items' rows at n = 2, 20 and 60: of
0.5, 1, 2 and 4 (4 at n = 2 and 20 only), 2 gained 0.003 and 0.005 over 1 at n = 2 and lost 0.001 and 0.002 at n = 60.
Draws overlap: about a fifth of the scored rows of seeds 0 to 2 are among those whose labels this choice saw, which can
only flatter the floor. The means' strength is the rivals' default, not tuned.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from recsys import runs
from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import Prior, unknown_prior
from recsys.coldrows.rescore import under
from recsys.coldrows.scores import base_scores, require_agreement, rescored
from recsys.coldrows.strength import Strengths, finetune_chosen
from recsys.coldrows.tune import Tuned
from recsys.config import Config
from recsys.data.schema import read_info
from recsys.distributed import Ranks, on_first
from recsys.files import replacing
from recsys.floor import kept
from recsys.floor.about import About
from recsys.floor.content import content_file, ridge_prior
from recsys.rivals import means
from recsys.rivals.rows import Scored, write_scores
from recsys.storage import at

System = Literal["means", "finetune", "ridge"]
SYSTEMS: tuple[System, ...] = get_args(System)


def floor(config: Config, system: System, exposure: int, ranks: Ranks, name: str | None = None) -> Path:
    """Score the test rows by one system; returns the folder. Collective.

    name: of the folder and in tables, where one system is run in several ways; None is the system's.

    Raises:
        InputError: the run is not of this config and dataset, the dataset keeps fewer rows of new items, or, but for
            `means`, the run has no checkpoint or no scores of its test rows.
    """
    started = time.perf_counter()
    dataset = at(config.data.path)
    on_first(ranks, lambda: _check(config, exposure))
    folder = Path(config.run) / "floor" / (name or system) / f"n={exposure}"
    info = read_info(dataset)
    items = kept.new_items(dataset)
    told: dict[str, Any] = {"name": name or "", "system": system, "exposure": exposure, "items": len(items)}
    told |= {"dataset": info.fingerprint, "settings": asdict(config.floor)}

    def write(scored: Iterator[Scored], **more: Any) -> None:
        with replacing(folder) as temporary:
            temporary.mkdir()
            write_scores(temporary / "scores.parquet", scored, dataset=info.fingerprint, exposure=str(exposure))
            About(**told, **more, seconds=round(time.perf_counter() - started, 1)).save(temporary)

    if system == "means":
        strengths = config.floor.strength, config.floor.strength
        on_first(
            ranks,
            lambda: write(
                means.scores(means.fit(dataset, exposure), dataset, "test", *strengths),
                examples=kept.count(dataset, exposure),
            ),
        )
        return folder
    base = base_scores(config, ranks)
    frozen = Frozen.load(config, items, ranks)
    require_agreement(frozen, base)
    tuned, found = _tuned(config, system, exposure, frozen)
    scores = rescored(frozen, under(frozen, tuned.rows), base)
    steps = {"gradient_steps": tuned.steps, "passes": tuned.passes, "examples": tuned.examples}
    on_first(ranks, lambda: write(scores, **steps, converged=tuned.converged, found=found))
    return folder


def _check(config: Config, exposure: int) -> None:
    runs.require(config)
    kept.check(at(config.data.path), exposure)


def _tuned(config: Config, system: System, exposure: int, frozen: Frozen) -> tuple[Tuned, dict[str, Any]]:
    """The new items' rows, and what was chosen on the way."""
    options, ranks = config.floor, frozen.ranks
    found: dict[str, Any] = {}
    if system == "ridge":
        prior, ridge = ridge_prior(frozen, content_file(config, ranks), options.ridge)
        found = {
            "penalty": ridge.penalty,
            "left_out_error": dict(zip(map(str, options.ridge), ridge.errors, strict=True)),
        }
    else:
        prior = unknown_prior(frozen)
    tuned, losses = finetuned(frozen, prior, exposure)
    return tuned, found | ({"left_out_loss": losses} if exposure else {})


def finetuned(frozen: Frozen, prior: Prior, exposure: int) -> tuple[Tuned, dict[str, float]]:
    """The rows of the frozen ranker's items, fine-tuned from a prior on `exposure` kept rows of each by the keys of
    `floor`; and the losses of `finetune_chosen`. Collective.

    Raises:
        InputError: a file that cannot be read.
    """
    config, ranks = frozen.encoder.config, frozen.ranks
    block = kept.kept_rows(frozen.encoder, exposure, ranks.rank, ranks.world_size)
    if block is None:
        return Tuned(prior.start), {}
    return finetune_chosen(frozen, block, prior, Strengths.of(config.floor, config.evaluate.batch_size))
