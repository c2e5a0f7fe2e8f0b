"""One alignment: batches, steps and epochs, judged by how well left-out items' IDs are found; resumes.

Notation: N targets, B items of a batch, D width.

Every rank draws the same batches by the seed, encodes its share of each (which items, is fixed), and reads the ID
vectors of all of it: these are constants, so the negatives of all ranks cost no traffic; the gradients are summed over
the ranks. Of an encoder that is frozen each item's token states are computed once.
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from proxy import saved
from proxy.content import Content
from proxy.frozen import TokenStates
from proxy.loss import alignment_loss, backward
from proxy.model import Aligner, by_length
from proxy.retrieval import Found, find, measures, names
from proxy.saved import BEST, LAST, Progress
from proxy.targets import TRAIN, VALID, Targets
from recsys.config import Config
from recsys.config_proxy import CHANGE_NO_VECTOR
from recsys.data.schema import read_info
from recsys.distributed import Ranks, on_first
from recsys.errors import InputError
from recsys.files import sweep
from recsys.settings import bound

_FREE = ("epochs", "patience", "recall", "folds")
"""Settings that may change between a start and a resume."""


@torch.no_grad()
def retrieve(
    model: Aligner,
    targets: Targets,
    content: Content,
    part: int,
    batch_size: int,
    ranks: Ranks,
    kept: TokenStates | None = None,
) -> Found:
    """Of the targets that are for `part`, how well their own IDs are found among all N. Collective.

    `kept`: token states of the items of this rank, if the encoder is frozen and they are there.
    """
    wanted = targets.of(part)
    model.eval()
    proxies = torch.zeros(len(wanted), model.dim, device=ranks.device)
    for some in by_length(content, wanted[_own(wanted, ranks)], batch_size):
        proxies[np.searchsorted(wanted, some)] = _proxies(model, content, some, kept)
    dist.all_reduce(proxies)
    return find(proxies, targets.unit.to(ranks.device), wanted)


class Loop:
    """One alignment: its optimizer, its batches and its log."""

    def __init__(
        self,
        config: Config,
        model: Aligner,
        targets: Targets,
        content: Content,
        ranks: Ranks,
        folder: Path,
        kept: TokenStates | None = None,
        fold: int | None = None,
    ) -> None:
        """`folder`: where it is kept. `kept`: token states, where another has them. `fold`: what it is without."""
        self.options, self.items = config.proxy.align, config.proxy.encoder.batch_size
        self.model, self.targets, self.content, self.ranks = model, targets, content, ranks
        self.unit = targets.unit.to(ranks.device)
        self.folder, self.kept = folder, kept
        self.begun = Progress(of=_identity(config, targets, fold))
        self.name = "align" if fold is None else f"align-fold-{fold}"
        self.logs = Path(config.run) / "logs" / self.name
        trained = model.trained()
        for parameter in trained.values():
            dist.broadcast(parameter.data, src=0)
        pretrained = model.pretrained()
        old = [parameter for name, parameter in trained.items() if name in pretrained]
        new = [parameter for name, parameter in trained.items() if name not in pretrained]
        groups = [{"params": old, "lr": self.options.lr}, {"params": new, "lr": self.options.new_lr}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=self.options.weight_decay)
        self.frozen = not any(name.startswith("encoder.") for name in trained)

    def run(self) -> Progress:
        """Epochs up to the last, from where the folder says. Collective.

        Raises:
            InputError: the folder has another alignment, or the loss is not finite.
        """
        on_first(self.ranks, lambda: sweep(self.folder) if self.folder.exists() else None)
        progress = self.begun
        if (self.folder / LAST).exists():
            progress = self._resumed()
        if self._goes_on(progress) and self.frozen and self.kept is None:
            self.keep()
        log = SummaryWriter(str(self.logs)) if self.ranks.is_first else None
        while self._goes_on(progress):
            loss, progress = self._epoch(progress)
            progress = self._judged(progress)
            on_first(self.ranks, partial(self._save, progress))
            if log:
                scalars = {"loss": loss, "temperature": float(self.model.temperature().detach()), **progress.metrics}
                for name, value in scalars.items():
                    log.add_scalar(f"align/{name}", value, progress.step)
        if log:
            log.close()
        return progress

    def _goes_on(self, progress: Progress) -> bool:
        return progress.epoch < self.options.epochs and progress.worse < self.options.patience

    def keep(self) -> None:
        """Compute the token states of this rank's items, once for all steps."""
        own = np.flatnonzero(_own(np.arange(len(self.content)), self.ranks))
        self.kept = TokenStates(self.model.encoder, self.content, own, self.items, self.folder)

    def step(self, batch: NDArray[np.int64], seed: int) -> Tensor:
        """[] the loss of one step on the targets [B] at these positions, detached. Collective."""
        mine = np.flatnonzero(_own(batch, self.ranks))
        self.model.train()
        self.optimizer.zero_grad()
        loss = self._backward(batch, mine, seed) if len(mine) else torch.zeros((), device=self.ranks.device)
        self._sum_gradients()
        self.optimizer.step()
        self.model.temperature.bound()
        dist.all_reduce(loss)
        return loss

    def _backward(self, batch: NDArray[np.int64], mine: NDArray[np.int64], seed: int) -> Tensor:
        chunks = by_length(self.content.take(batch), mine, self.items)
        seeds = [hash((seed, self.ranks.rank, k)) & 0xFFFFFFFF for k in range(len(chunks))]
        own = torch.from_numpy(np.concatenate(chunks)).to(self.ranks.device)
        items = torch.from_numpy(batch).to(self.ranks.device)

        def loss_of(h: Tensor) -> Tensor:
            return alignment_loss(h, self.unit[items], own, items, self.model.temperature())

        # Collated anew in each pass: the images of a batch, as pixels, are gigabytes.
        return backward(lambda k: _proxies(self.model, self.content, batch[chunks[k]], self.kept), seeds, loss_of)

    def _sum_gradients(self) -> None:
        for parameter in self.model.trained().values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def _epoch(self, progress: Progress) -> tuple[float, Progress]:
        """The epoch's mean loss, and where it ends."""
        seed = self.options.seed
        order = np.random.default_rng([seed, progress.epoch]).permutation(self.targets.of(TRAIN))
        batches = np.array_split(order, -(-len(order) // self.options.batch_size))
        bar = tqdm(
            batches,
            desc=f"{self.name} {progress.epoch + 1}/{self.options.epochs}",
            unit="step",
            disable=None if self.ranks.is_first else True,
        )
        total = 0.0
        for k, batch in enumerate(bar):
            loss = float(self.step(batch, hash((seed, progress.step + k))))
            if not math.isfinite(loss):
                raise InputError(f"{self.folder}: the loss is {loss}: expected a lower proxy.align.lr or new_lr")
            total += loss
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        step = progress.step + len(batches)
        return total / len(batches), replace(progress, epoch=progress.epoch + 1, step=step)

    def _judged(self, progress: Progress) -> Progress:
        recall = self.options.recall
        found = retrieve(self.model, self.targets, self.content, VALID, self.items, self.ranks, self.kept)
        values = measures(found, len(self.unit), recall).mean(axis=1)
        metrics = dict(zip(names(recall), values.tolist(), strict=True))
        better = metrics["auc"] > progress.best
        best, worse = (metrics["auc"], 0) if better else (progress.best, progress.worse + 1)
        return replace(progress, metrics=metrics, best=best, worse=worse)

    def _save(self, progress: Progress) -> None:
        # The best one first: killed in between, the epoch is trained again and gives the same.
        if progress.worse == 0:
            saved.save(self.folder / BEST, self.model, progress)
        saved.save(self.folder / LAST, self.model, progress, self.optimizer)

    def _resumed(self) -> Progress:
        require(self.folder / LAST, self.begun.of)
        return saved.load(self.folder / LAST, self.model, self.optimizer)


def _own(items: NDArray[np.int64], ranks: Ranks) -> NDArray[np.bool_]:
    """[n] which of these items this rank encodes: the same ones always."""
    return items % ranks.world_size == ranks.rank


def _proxies(model: Aligner, content: Content, at: NDArray[np.int64], kept: TokenStates | None) -> Tensor:
    """[B, D] of the items `at` [B], on the model's device."""
    if kept is None:
        return model.encode(content.take(at))
    states, mask = kept(at)
    device = model.device
    return model.project(states.to(device), mask.to(device))


def without(config: Config, fold: int | None) -> dict[str, Any]:
    """What names an alignment that is without a fold."""
    return {} if fold is None else {"fold": f"{fold} of {config.proxy.align.folds}"}


def require(folder: Path, expected: dict[str, Any]) -> None:
    """Refuse the alignment in a folder if it was begun otherwise."""
    found = saved.about(folder).of
    for key, now in expected.items():
        if found.get(key) != now:
            raise InputError(
                f"{folder}: this alignment was begun with {key}={found.get(key)}, not {now}: remove the folder to "
                "begin again"
            )


def _identity(config: Config, targets: Targets, fold: int | None) -> dict[str, Any]:
    """What an alignment is of: with anything else of it another, it is another one."""
    settings = bound(config.proxy.align, _FREE, "proxy.align.")
    dataset = read_info(config.data.path).fingerprint
    return {**settings, **encoder_settings(config), "dataset": dataset, "tables": targets.base, **without(config, fold)}


def encoder_settings(config: Config) -> dict[str, Any]:
    """How content is read: what changes no vector left out."""
    return bound(config.proxy.encoder, CHANGE_NO_VECTOR, "proxy.encoder.")
