"""A prompt network learns beside the frozen ranker: warm items first, later new items' own rows.

Training streams split=train, each row with its lists as of its second. Of a batch's items a share poses as new
(`prompt.tuning.pose`), which is what the network is for; so do all items of split=valid while it is judged. After each
epoch a checkpoint is written and the AUC in split=valid told; the base, epoch 0, counts as one.

A new item's own rows then learn from its few kept rows, by `prompt.tuning.passes` passes in which nothing else moves.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from recsys.coldrows.tune import Passes
from recsys.data.batch import Batch, hide
from recsys.data.encode import Block
from recsys.data.ids import UNKNOWN
from recsys.data.log import Mask
from recsys.data.reader import Reader
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.evaluate.streamed import StreamedAuc
from recsys.model.prompt import PromptInputs
from recsys.prompt.host.asked import Asked
from recsys.prompt.host.beside import Host
from recsys.prompt.host.network import Network, ended
from recsys.tables.checkpoint import Progress, Saver
from recsys.tables.rows import Rows
from recsys.training.watch import Watch


def train(network: Network, host: Host) -> None:
    """Train until the epochs are done or validation stops it, from where the network stands. Collective.

    Raises:
        InputError: the scores of split=valid are not finite.
    """
    if not network.progress.done:
        with Watch(host.frozen.ranks, host.frozen.encoder.config.train.timeout) as watch:
            _Loop(network, host, watch).run()


class _Loop:
    def __init__(self, network: Network, host: Host, watch: Watch) -> None:
        config, ranks, self.watch = host.frozen.encoder.config, host.frozen.ranks, watch
        self.network, self.host, self.options, self.ranks = network, host, config.prompt.tuning, ranks
        self.keep, dataset = config.train.keep, Path(config.data.path)
        encoder, place = host.frozen.encoder, (ranks.rank, ranks.world_size)
        shuffle, seed = config.train.shuffle_rows, self.options.seed
        self.reader = Reader(encoder, "train", self.options.batch, *place, shuffle=shuffle, seed=seed)
        self.valid = Reader(encoder, "valid", config.evaluate.batch_size, *place)
        self.asked = {split: Asked.of_split(dataset, split, host.entities) for split in ("train", "valid")}

    def run(self) -> None:
        progress, version = self.network.progress, self.network.version
        with Saver(self.network.folder / "checkpoints", self.keep) as saver:
            while not progress.done:
                if progress.best_auc >= 0:
                    self._epoch(progress)
                    progress = replace(progress, epoch=progress.epoch + 1, step=progress.step + self.reader.steps)
                progress = self._judged(progress)
                self.watch.at(f"the checkpoint of step {progress.step}")
                saver.save(self.network.sharded, progress, version.at(progress.step))

    def _epoch(self, progress: Progress) -> None:
        epoch, sharded, quiet = progress.epoch, self.network.sharded, None if self.ranks.is_first else True
        sharded.model.train()
        title = f"epoch {epoch + 1}/{self.options.epochs}"
        batches = tqdm(self.reader.epoch(epoch), title, self.reader.steps, unit="step", disable=quiet)
        for step, batch in enumerate(batches):
            self.watch.at(f"step {progress.step + step + 1}")
            salt = hash((self.options.seed, epoch, step, self.ranks.rank)) & 0xFFFFFFFF
            sharded.optimizer.zero_grad()
            _loss(self.network, self.host, batch, self.asked["train"], self.options.pose, salt).backward()
            sharded.optimizer.step()
        sharded.dense_optimizer.flush()

    def _judged(self, progress: Progress) -> Progress:
        auc = self._auc()
        better = auc > progress.best_auc
        worse = 0 if better else progress.worse + 1
        if self.ranks.is_first:
            note = "best so far" if better else f"{worse} without improvement"
            tqdm.write(f"epoch {progress.epoch}: valid AUC of items posing as new {auc:.4f} ({note})")
        progress = replace(progress, best_auc=max(auc, progress.best_auc), worse=worse)
        return replace(progress, done=ended(progress, self.options))

    @torch.no_grad()
    def _auc(self) -> float:
        """The same number on every rank. Collective."""
        self.network.sharded.model.eval()
        area, bad = StreamedAuc(self.ranks.device), torch.zeros((), dtype=torch.int64, device=self.ranks.device)
        for number, batch in enumerate(self.valid.epoch(), 1):
            self.watch.at(f"a validation, batch {number} of {self.valid.steps}")
            batch = batch.to(self.ranks.device)
            posed = np.ones(len(batch.label), bool) if self.options.pose else None
            real = batch.weight > 0
            logit = self.network.model(_inputs(self.host, batch, self.asked["valid"], posed))[0][real]
            bad += (~logit.isfinite()).sum()
            area.update(logit.sigmoid(), batch.label[real])
        dist.all_reduce(bad)
        if bad:
            raise InputError(
                f"split=valid: {int(bad)} scores are not finite: lower prompt.tuning.lr or prompt.tuning.table_lr"
            )
        return area.compute().value


def own_rows(network: Network, host: Host, block: Block, asked: Asked, place: NDArray[np.int64]) -> None:
    """Start rows `place` of the network's tables at row 0, and let them learn from the block. Collective.

    block: this rank's share of the rows of the items that own them, numbered as in `asked`.
    """
    frozen, options, sharded = host.frozen, host.options.tuning, network.sharded
    _start(network, frozen.ranks, place)
    sharded.model.train()
    passes = Passes(frozen, block, options.batch)
    for number in range(options.passes if passes.examples else 0):
        for step, batch in enumerate(passes):
            _loss(network, host, batch, asked, 0.0, number + step).backward()
            if sharded.copied_optimizer:
                sharded.copied_optimizer.step()
            # The rest has gradients too, but is never stepped.
            sharded.optimizer.zero_grad()


def _start(network: Network, ranks: Ranks, place: NDArray[np.int64]) -> None:
    rows = Rows(network.sharded, ranks)
    mine = torch.from_numpy(place if ranks.is_first else place[:0])
    for spec in network.specs:
        start, _ = rows.read(spec.name, torch.zeros(1, dtype=torch.int64))
        rows.write(spec.name, mine, start.expand(len(mine), -1))


def _loss(network: Network, host: Host, batch: Batch, asked: Asked, pose: float, salt: int) -> Tensor:
    batch = batch.to(host.frozen.ranks.device)
    posed = None
    if pose:
        targets = batch.items.values()[: len(batch.label)].cpu().numpy()
        posed = hide(targets, pose, salt) == UNKNOWN
    given = _inputs(host, batch, asked, posed)
    loss: Tensor = network.sharded.model(given, batch.label, batch.weight, host.cold[given.item_B])[0]
    return loss


def _inputs(host: Host, batch: Batch, asked: Asked, posed: Mask | None) -> PromptInputs:
    lists = host.lists(asked.take(batch.row_id.cpu().numpy()), posed=posed)
    return host.inputs(batch, lists, None if posed is None else torch.from_numpy(posed).to(batch.label.device))


def probabilities(network: Network, host: Host, batch: Batch, asked: Asked) -> Tensor:
    """[B] float32 of rows of split=test. Collective."""
    lists = host.lists(asked.take(batch.row_id.cpu().numpy()), whole=True)
    with torch.no_grad():
        return network.model(host.inputs(batch, lists))[0].sigmoid()
