"""The protocol of PROMO's paper: a network beside a trained DSSM or SASRec, and the base itself trained on for as long.

    <run>/prompt/<kind>/<name>/checkpoint/        of the network's training, see `recsys.backbones.saved`
    <run>/prompt/<kind>/<name>/scores/            of its best epoch, for `tools.evaluate --vectors`
    <run>/prompt/<kind>/<name>/about.json         what was trained, and what validation said after each epoch
    <run>/prompt/<kind>/finetuned/checkpoint/, vectors/, about.json    the same of the base that was trained on

Both start from the base's best epoch, which counts as an epoch of its own, and stop by the same validation after the
same number of epochs at most.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys.backbones import saved
from recsys.backbones import vectors as pairs
from recsys.backbones.base import weights_digest
from recsys.backbones.bce import SequenceLearner
from recsys.backbones.graph import Graph
from recsys.backbones.loop import resume
from recsys.backbones.saved import Terms, Training
from recsys.backbones.valid import Validation
from recsys.config import Config
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.files import replacing
from recsys.model.prompt import size
from recsys.prompt import ranked
from recsys.prompt.beside import Beside
from recsys.prompt.network import PromptLearner
from recsys.prompt.settings import settings_of
from recsys.settings import bound

_FREE = ("epochs", "patience", "pose", "passes", "finetune")
"""Settings that may change between a start and a resume, and those of a network beside the ranker."""
SCORES, VECTORS, FINETUNED = "scores", "vectors", "finetuned"


def folder_of(config: Config, name: str | None = None) -> Path:
    """Where the config's network is kept; or what else has the `name`."""
    return Path(config.run) / "prompt" / config.backbone.kind / (name or config.prompt.name)


def network(config: Config, ranks: Ranks) -> Path:
    """Train the config's network to the end, from the checkpoint if there is one, and score split=test; returns the
    folder.

    Raises:
        InputError: more ranks than one, no trained base, a bad dataset or checkpoint, or a loss that is not finite.
    """
    folder, read = folder_of(config), beside(config, ranks)
    learner, training = trained(config, read)
    ranked.write(folder / SCORES, learner.model, read, Path(config.data.path))
    made = size(learner.model, read.base.model)
    _tell(folder, training, tuned=made.tuned, share=made.share, item_bytes=made.item_bytes)
    return folder


def beside(config: Config, ranks: Ranks) -> Beside:
    """The trained base and its feedback.

    Raises:
        InputError: more ranks than one, or as `Beside.read`.
    """
    _require_alone(ranks)
    return Beside.read(config, ranks.device)


def trained(config: Config, beside: Beside) -> tuple[PromptLearner, Training]:
    """The config's network after its best epoch, trained as far as it is not.

    Raises:
        InputError: as `network`.
    """
    options, learner = config.prompt.tuning, PromptLearner(config, beside)
    began = fresh(learner)
    epochs, checkpoint = 1 + options.epochs, folder_of(config) / "checkpoint"
    return learner, resume(learner, began, _terms(config, learner.digest), epochs, options.patience, checkpoint)


def fresh(learner: PromptLearner) -> Training:
    """Before the first epoch."""
    return Training(learner.model, learner.optimizers(), learner.model.state_dict(), [])


def finetuned(config: Config, ranks: Ranks) -> Path:
    """Train all of the base on, and write its vectors; returns the folder.

    Raises:
        InputError: as `network`.
    """
    _require_alone(ranks)
    folder, options = folder_of(config, FINETUNED), config.prompt.tuning
    graph = Graph.read(Path(config.data.path))
    valid = Validation.read(Path(config.data.path), graph, config.evaluate.seed)
    learner = FurtherLearner(config, graph, valid, ranks.device)
    training, terms = saved.fresh(learner.model, config.backbone), Terms.of(config.backbone, learner.digest)
    resume(learner, training, terms, 1 + options.epochs, options.patience, folder / "checkpoint")
    pairs.write(folder / VECTORS, graph, *learner.vectors())
    _tell(folder, training)
    return folder


class FurtherLearner(SequenceLearner):
    """A trained base's own training, gone on with by a new optimizer; its epoch 0 takes no step."""

    def __init__(self, config: Config, graph: Graph, valid: Validation, device: torch.device) -> None:
        """Raises InputError as `SequenceLearner`, and where there is no trained base."""
        super().__init__(config, graph, valid, device)
        saved.restore(config, self.model, self.digest)
        self.digest = weights_digest(self.model, self.digest)

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """Of batches of sequences, each event once, in draws that the base has not seen."""
        if epoch:
            yield from super().losses(self.options.epochs + epoch)


def _terms(config: Config, digest: str) -> Terms:
    """All settings that a network's training depends on; `epochs` and `patience` may change."""
    options = config.prompt
    made_of_lists = bound(options.model, prefix="model.") | bound(options.tuning, _FREE, "tuning.")
    return Terms("prompt", settings_of(options) | made_of_lists, digest)


def _tell(folder: Path, training: Training, **more: Any) -> None:
    best = training.history.index(max(training.history))
    told = {"hitrate@10 in split=valid": training.history, "best epoch": best, **more}
    with replacing(folder / "about.json") as partial:
        partial.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")


def _require_alone(ranks: Ranks) -> None:
    if ranks.world_size > 1:
        raise InputError(f"a network beside a backbone is one process's: expected one rank, found {ranks.world_size}")
