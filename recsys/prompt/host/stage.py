"""Scores of new items' rows by a prompt network beside the frozen ranker.

    <run>/prompt/host/<name>/n=<exposure>/scores.parquet              the run's, those of new items by the network
    <run>/prompt/host/<name>/finetuned/n=<exposure>/scores.parquet    beside vectors that were fine-tuned for them
    <run>/prompt/host/<name>/about.json                               how it was trained, and its size

One network is trained for all of these, from warm items; what is kept of new items is in their lists, and their own
rows learn from it. The ranker's checkpoints, tables and scores stay as they are.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys import runs
from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import unknown_prior
from recsys.coldrows.scores import score_by, scored
from recsys.config import Config
from recsys.data.check import Place
from recsys.data.schema import split_files
from recsys.distributed import Ranks, of_first, on_first
from recsys.files import replacing
from recsys.floor import kept
from recsys.floor.systems import finetuned
from recsys.model.prompt import size
from recsys.model.ranker import Ranker
from recsys.prompt.host.asked import COLUMNS, Asked
from recsys.prompt.host.beside import Host
from recsys.prompt.host.network import Network, folder_of, promo
from recsys.prompt.host.training import own_rows, probabilities, train
from recsys.tables import checkpoint, service
from recsys.tables.locks import training_together

SCORES, FINETUNED = "scores.parquet", "finetuned"


def prompt(config: Config, exposure: int, ranks: Ranks) -> Path:
    """Train the config's network as far as it is not, and score the test rows after `exposure` kept rows of each new
    item; returns the file. Collective.

    Raises:
        InputError: the run is not of this config and dataset, has no checkpoint or no scores of its test rows; the
            dataset keeps fewer rows of new items; or as `Network.open`, `Host.read` and `train`.
    """
    dataset = Path(config.data.path)
    base = of_first(ranks, lambda: begin(config, exposure))
    frozen = Frozen.load_locked(config, kept.new_items(dataset), ranks)
    network = trained(frozen, base)
    path = network.folder / (FINETUNED if config.prompt.tuning.finetune else "") / f"n={exposure}" / SCORES
    key = _key(network, config, exposure)
    if of_first(ranks, lambda: scored(path, key)):
        return path
    host = Host.read(frozen, network.rows, exposure, vectors=_vectors(frozen, exposure))
    if block := kept.kept_rows(frozen.encoder, exposure, ranks.rank, ranks.world_size):
        place = Place(split_files(dataset, "feedback")[0], 0)
        asked = Asked.of([(place, kept.kept_table(dataset, exposure, COLUMNS))], host.entities)
        new = network.rows.rows(host.entities.items.ids)[host.new]
        own_rows(network, host, block, asked, np.sort(new))
    network.sharded.model.eval()
    test = Asked.of_split(dataset, "test", host.entities)
    score_by(frozen, lambda batch: probabilities(network, host, batch, test), path, exposure, key)
    return path


def _key(network: Network, config: Config, exposure: int) -> str:
    """Digest of all that scores depend on."""
    told: list[Any] = [network.version.name, exposure, config.prompt.tuning.passes]
    if config.prompt.tuning.finetune:
        told += [config.floor.prior, config.floor.tolerance, config.floor.max_passes]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _vectors(frozen: Frozen, exposure: int) -> torch.Tensor | None:
    """[n, D] of the new items where the config asks for fine-tuned ones; else None. Collective."""
    if not frozen.encoder.config.prompt.tuning.finetune:
        return None
    return finetuned(frozen, unknown_prior(frozen), exposure)[0].rows


def trained(frozen: Frozen, base: str) -> Network:
    """The network of the frozen ranker's config at its best checkpoint. Collective.

    Raises:
        InputError: another process trains it; or as `Network.open`, `Host.read` and `train`.
    """
    folder = folder_of(frozen.encoder.config)
    with training_together(folder, frozen.ranks):
        network = Network.open(frozen, base)
        if not network.progress.done:
            train(network, Host.read(frozen, network.rows, 0))
        network = network.restore()
        on_first(frozen.ranks, lambda: _tell(frozen, network))
    return network


def begin(config: Config, exposure: int) -> str:
    """Look at what must be there; the base's version.

    Raises:
        InputError: as `prompt`.
    """
    runs.bring_up(config)
    kept.check(Path(config.data.path), exposure)
    service.catch_up(folder_of(config), config.tables.max_staleness)
    return checkpoint.version_of(checkpoint.best(Path(config.run) / "checkpoints")).base


def _tell(frozen: Frozen, network: Network) -> None:
    config, device = frozen.encoder.config, torch.device("meta")
    ranker = Ranker(frozen.encoder.spec, config.model, device)
    made = size(promo(config, network.rows.capacity), ranker)
    progress = network.progress
    told = {"valid auc": progress.best_auc, "best epoch": progress.epoch, "steps": progress.step, **asdict(made)}
    with replacing(network.folder / "about.json") as partial:
        partial.write_text(json.dumps(told, indent=1) + "\n")
