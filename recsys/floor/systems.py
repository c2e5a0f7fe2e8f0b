"""The floor: simple systems for new items, each scoring every test row after `exposure` kept rows of each new item.

    means      logit of the smoothed user mean plus that of the smoothed item mean; 0 gradient steps
    finetune   the trained base, frozen, with ID rows for the new items fine-tuned on their kept rows to convergence;
               at exposure 0 they are the trained unknown row, so it is the base
    ridge      the same, started at what closed-form ridge makes of the items' content; 0 gradient steps at exposure 0

    <run>/floor/<name>/n=<exposure>/scores.parquet, about.json

Nothing of a test row but its inputs is read, and of a new item's other rows only the kept ones. `finetune` and `ridge`
copy the base's own scores for the rows of all other items: 5 bytes a test row are held, less than evaluation takes.

The prior's strength was chosen on another draw of MovieLens-1M's new items (split seed 3, one trained base), by AUC and
GAUC of `finetune` on the new items' rows at n = 2, 20 and 60: of 0.5, 1, 2 and 4 (4 at n = 2 and 20 only), 2 gained
0.003 and 0.005 over 1 at n = 2 and lost 0.001 and 0.002 at n = 60. Draws overlap: about a fifth of the scored rows of
seeds 0 to 2 are among those whose labels this choice saw, which can only flatter the floor. The means' strength is the
rivals' default, not tuned.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from recsys import runs
from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import unknown_prior
from recsys.coldrows.rescore import rescore
from recsys.coldrows.tune import Tuned, finetune
from recsys.config import Config
from recsys.data.reader import Reader, row_groups
from recsys.data.schema import read_info, split_files
from recsys.distributed import Ranks, on_first
from recsys.errors import InputError
from recsys.evaluate.scores import read_scores
from recsys.files import replacing
from recsys.floor import kept
from recsys.floor.about import About
from recsys.floor.content import content_file, ridge_prior
from recsys.rivals import means
from recsys.rivals.rows import Scored, write_scores

System = Literal["means", "finetune", "ridge"]
SYSTEMS: tuple[System, ...] = get_args(System)

_CHUNK = 65536
_SAME, _SAME_BF16 = 1e-3, 3e-2
"""Probabilities of one row under other ranks, another sharding or another device differ by less. A bfloat16 keeps 8
bits: a logit of 2 to 4 comes in steps of 1/64, which is up to 0.002 of a probability, and each layer before it rounds
as well."""


def floor(config: Config, system: System, exposure: int, ranks: Ranks, name: str | None = None) -> Path:
    """Score the test rows by one system; returns the folder. Collective.

    name: of the folder and in tables, where one system is run in several ways; None is the system's.

    Raises:
        InputError: the run is not of this config and dataset, the dataset keeps fewer rows of new items, or, but for
            `means`, the run has no checkpoint or no scores of its test rows.
    """
    started = time.perf_counter()
    dataset = Path(config.data.path)
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
    scores = _base_scores(config, ranks)
    frozen = Frozen(config, items, ranks)
    _agree(frozen, scores)
    tuned, found = _tuned(config, system, exposure, frozen)
    for row_id, score in rescore(frozen, tuned.rows, "test", config.evaluate.batch_size):
        if ranks.is_first:
            scores[row_id] = score
    steps = {"gradient_steps": tuned.steps, "passes": tuned.passes, "examples": tuned.examples}
    on_first(ranks, lambda: write(_chunks(scores), **steps, converged=tuned.converged, found=found))
    return folder


def _check(config: Config, exposure: int) -> None:
    runs.require(config)
    kept.check(Path(config.data.path), exposure)


def _base_scores(config: Config, ranks: Ranks) -> NDArray[np.float32]:
    """[test rows] scores of the run's own; on the first rank only."""
    dataset, path = Path(config.data.path), Path(config.run) / "scores" / "test"
    held: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]

    def load() -> None:
        if not path.exists():
            raise InputError(f"{path}: no scores of the base: run tools.predict with this config first")
        rows = sum(group.rows for group in row_groups(split_files(dataset, "test")))
        held[0] = read_scores(path, rows, "test", read_info(dataset).fingerprint)

    on_first(ranks, load)
    return held[0]


def _agree(frozen: Frozen, scores: NDArray[np.float32]) -> None:
    """Refuse scores that the frozen ranker would not give, on a batch of test rows. Collective."""
    ranks, config = frozen.ranks, frozen.encoder.config
    reader = Reader(frozen.encoder, "test", config.evaluate.batch_size, ranks.rank, ranks.world_size)
    batch = next(reader.epoch()).to(ranks.device)
    with torch.no_grad():
        score = frozen.logits(batch, frozen.unknown().repeat(frozen.count, 1)).sigmoid()
    real = batch.weight > 0
    row_id, found = batch.row_id[real].cpu().numpy(), score[real].cpu().numpy()

    def compare() -> None:
        if np.abs(scores[row_id] - found).max() > (_SAME_BF16 if config.train.bf16 else _SAME):
            raise InputError(
                f"{Path(config.run) / 'scores' / 'test'}: not the scores of the run's best checkpoint: "
                "run tools.predict again (where held-out items have been admitted since, there is no floor to compare)"
            )

    on_first(ranks, compare)


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
    block = kept.kept_rows(frozen.encoder, exposure, ranks.rank, ranks.world_size)
    if block is None:
        return Tuned(prior.start), found
    tuned = finetune(
        frozen,
        block,
        prior,
        strength=options.prior,
        tolerance=options.tolerance,
        max_passes=options.max_passes,
        batch_size=config.evaluate.batch_size,
    )
    return tuned, found


def _chunks(scores: NDArray[np.float32]) -> Iterator[Scored]:
    for begin in range(0, len(scores), _CHUNK):
        part = scores[begin : begin + _CHUNK]
        yield np.arange(begin, begin + len(part)), part.astype(np.float64)
