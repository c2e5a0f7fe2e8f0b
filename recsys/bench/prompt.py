"""Row `prompt`: training positives a second of PROMO's network beside a frozen SASRec, against that SASRec's training.

Both learn from the same positives, as many a step in the mean and as many negatives each: the network from lists that
are made for every pair, the base from windows of its users' sequences. A turn is an epoch of each. The base is as
initialised: what a step costs does not depend on the weights.

`detail`: numbers that the network tunes, their share of the base's, bytes an item.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from recsys.backbones import saved
from recsys.backbones.bce import SequenceLearner
from recsys.backbones.graph import Graph
from recsys.backbones.loop import Learner, descend
from recsys.backbones.saved import Terms, Training
from recsys.backbones.sequences import Sequences, batches
from recsys.backbones.valid import Validation
from recsys.bench.data import make
from recsys.bench.frame import Measured, alternated
from recsys.config import Config, Label, Split
from recsys.distributed import Ranks
from recsys.model.prompt import size
from recsys.prompt import protocol
from recsys.prompt.network import PromptLearner

USERS, LIKED = 1000, 5.0
"""Of the bench's log, with all of its items, and from which value on it is a positive: an epoch is some 30,000."""
ROUNDS = 3
REQUIRED = 0.5


def measure(config: Config, ranks: Ranks) -> Measured:
    """Make a leave-one-out dataset, unless it is there, and compare on it. Collective over one rank."""
    data, source = config.data, config.data.source
    raw = {name: getattr(source, name) for name in ("interactions", "users", "items")}
    moved = {name: replace(file, path=f"{data.path}-prompt-raw/{name}.parquet") for name, file in raw.items()}
    data = replace(
        data,
        path=f"{data.path}-prompt",
        source=replace(source, **moved),
        label=Label(threshold=LIKED),
        split=Split(rule="leave-one-out"),
        history=config.backbone.history + 1,
    )
    make(data, users=USERS)
    return compare(replace(config, data=data, run=str(Path(config.run) / "prompt")), ranks)


def compare(config: Config, ranks: Ranks, rounds: int = ROUNDS) -> Measured:
    """Rates in positives a second. Collective over one rank."""
    config = replace(config, backbone=replace(config.backbone, batch=_windows(config)))
    base, of_base = _base(config, ranks)
    network = PromptLearner(config, protocol.beside(config, ranks))
    of_network = protocol.fresh(network)
    contenders = {"ours": lambda: _epoch(network, of_network), "the base": lambda: _epoch(base, of_base)}
    positives, tuning = len(base.sequences.known), config.prompt.tuning
    detail = {
        **asdict(size(network.model, network.beside.base.model)),
        "positives": positives,
        "positives a step": tuning.batch,
        "negatives": {"ours": tuning.negatives, "the base": config.backbone.negatives},
        "windows a step of the base": config.backbone.batch,
    }
    return alternated(contenders, positives, "positives/s", REQUIRED, rounds, detail)


def _windows(config: Config) -> int:
    """So many have as many positives in the mean as a step of the network."""
    sequences = Sequences.read(Path(config.data.path), Graph.read(Path(config.data.path)))
    parts = batches(sequences, config.backbone.history, config.prompt.tuning.batch, np.random.default_rng(0))
    return max(round(config.prompt.tuning.batch * sum(len(part.user) for part in parts) / len(sequences.known)), 1)


def _base(config: Config, ranks: Ranks) -> tuple[SequenceLearner, Training]:
    """The base in training, with a checkpoint as if validation had been asked once."""
    graph = Graph.read(Path(config.data.path))
    valid = Validation.read(Path(config.data.path), graph, config.evaluate.seed)
    learner = SequenceLearner(config, graph, valid, ranks.device)
    begun = saved.fresh(learner.model, config.backbone)
    begun.history.append(0.0)
    saved.save(saved.folder_of(config) / "checkpoint", begun, Terms.of(config.backbone, learner.digest))
    return learner, begun


def _epoch(learner: Learner, training: Training) -> None:
    descend(training, learner.losses(1))
