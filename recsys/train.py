"""The training loop: epochs over the streaming reader through torchrec's pipeline, validated, checkpointed, resumed."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.tensorboard import SummaryWriter
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from tqdm import tqdm

from recsys.config import Config
from recsys.data.batch import Batch
from recsys.data.check import check
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.pieces import Leg
from recsys.data.reader import Reader
from recsys.distributed import Ranks, of_first, on_first
from recsys.errors import InputError
from recsys.evaluate.streamed import StreamedAuc
from recsys.model.ranker import Ranker
from recsys.runs import begin, require
from recsys.score import score
from recsys.tables import checkpoint, content, live
from recsys.tables.checkpoint import Progress, Saver
from recsys.tables.locks import training_together
from recsys.tables.sharding import Sharded, refuse, shard
from recsys.tables.version import Version
from recsys.training.profile import Profile
from recsys.training.schedule import height
from recsys.training.watch import Watch

_LOG_EVERY = 50
"""Steps between two points of the curves of loss and learning rates."""


def build(config: Config, encoder: Encoder, ranks: Ranks) -> Sharded:
    """A freshly initialised, sharded ranker for fitted inputs. Collective."""
    torch.manual_seed(config.train.seed)
    spec = encoder.spec
    ranker = Ranker(spec, config.model, device=torch.device("meta"), bf16=config.train.bf16)
    # The dense part starts alike everywhere; from one seed, the first row of every rank's shard would start alike too.
    torch.manual_seed(config.train.seed + 1_000_003 * (ranks.rank + 1))
    return shard(ranker, spec, config, ranks)


def fitted(config: Config, ranks: Ranks) -> Encoder:
    """The run's encoder: fitted by the first rank unless the run has one already. Collective."""
    folder = Path(config.run) / "encoder"

    def fit_once() -> None:
        if not (folder / "encoder.json").exists():
            fit(config).save(folder)

    on_first(ranks, fit_once)
    return Encoder.load(config, folder)


def train(config: Config, ranks: Ranks) -> Progress:
    """Train until the epochs are done or validation AUC stops rising; resumes from the newest intact checkpoint.
    Collective.

    Writes `<run>/config.yaml`, `<run>/encoder/`, `<run>/checkpoints/` and TensorBoard events to `<run>/logs/`; a
    finished run is left as it is.

    A run that dies at any step and is resumed by as many ranks ends, on CPU, with the same bits if they are one or two;
    of more, DDP rounds the first sum of gradients in another order. Other ranks are dealt what is left of the epoch.

    Raises:
        InputError: another process trains the run, the dataset is not sound (see `recsys.data.check`), a capacity is
            too small, a pattern of `train.groups` matches nothing, the run was begun with another config, dataset or
            model, or a file of the dataset has gone or the disk is full meanwhile.
    """
    run = Path(config.run)
    with training_together(run, ranks):
        return _train(config, run, ranks)


def _train(config: Config, run: Path, ranks: Ranks) -> Progress:
    saved = of_first(ranks, lambda: bool(checkpoint.found(run / "checkpoints")))
    on_first(ranks, lambda: _begin(config, saved, ranks))
    encoder = fitted(config, ranks)
    sharded = build(config, encoder, ranks)
    if saved:
        progress, version = checkpoint.resume(run, sharded, ranks)
    else:
        content.fill(sharded, encoder, ranks)
        progress, version = Progress(), of_first(ranks, lambda: Version.new(encoder.lineage))
    if progress.done:
        return progress
    with Watch(ranks, config.train.timeout) as watch:
        return Loop(config, encoder, sharded, ranks, watch).run(progress, version)


def _begin(config: Config, saved: bool, ranks: Ranks) -> None:
    """Write config and encoder of a run, once all that can be refused has been looked at."""
    run = Path(config.run)
    if (run / "config.yaml").exists():
        require(config)
    if not saved:
        # Reads the whole dataset once; a resumed run vouches for it by its fingerprint.
        check(config)
    encoder = None if (run / "encoder" / "encoder.json").exists() else fit(config)
    if encoder:
        refuse(encoder.spec, config, ranks)
    begin(config)
    if encoder:
        encoder.save(run / "encoder")


class Loop:
    """One run's readers, pipeline and log. `watch` is told where they are."""

    def __init__(
        self, config: Config, encoder: Encoder, sharded: Sharded, ranks: Ranks, watch: Watch | None = None
    ) -> None:
        self.config, self.sharded, self.ranks = config, sharded, ranks
        place = {"rank": ranks.rank, "world_size": ranks.world_size}
        settings_ = config.train
        self.reader = Reader(
            encoder.weighted(settings_.weight),
            "train",
            settings_.batch_size,
            **place,
            shuffle=settings_.shuffle_rows,
            seed=settings_.seed,
            hide_ids=settings_.hide_ids,
            hide_users=settings_.hide_users,
            keep_negatives=settings_.keep_negatives,
        )
        self.valid = Reader(encoder, "valid", config.evaluate.batch_size, **place)
        self._open: Iterator[Batch] = iter(())
        self._open_at: tuple[int, int, tuple[Leg, ...]] | None = None
        self.watch = watch or Watch(ranks, settings_.timeout)
        self.profile = Profile(Path(config.run), ranks.rank, settings_.profile)
        self.log = SummaryWriter(str(Path(config.run) / "logs")) if ranks.is_first else None

    def run(self, progress: Progress, version: Version) -> Progress:
        """Train on from `progress` to the end; checkpoints are written while the next steps train.

        Deltas that others add to the run's log are taken between two validations.
        """
        progress = self._placed(progress)
        every = -(-self.reader.steps // self.config.train.evals_per_epoch)
        run, stale = Path(self.config.run), self.config.tables.max_staleness
        with self.profile, Saver(run / "checkpoints", self.config.train.keep) as saver:
            while not progress.done:
                self.watch.at(f"the deltas before step {progress.step + 1}")
                version = live.catch_up(run, self.sharded, version.at(progress.step), self.ranks, stale)
                until = min(progress.epoch_step + every, self._steps(progress))
                progress = self.stretch(progress, until)
                progress = self._validate(progress)
                self.watch.at(f"the checkpoint of step {progress.step}")
                saver.save(self.sharded, progress, version.at(progress.step))
        if self.log:
            self.log.close()
        return progress

    def _placed(self, progress: Progress) -> Progress:
        """Under other ranks or another batch size than before, what is left of the epoch is dealt anew."""
        now = self.reader.dealt
        if progress.epoch_step and progress.dealt not in (None, now):
            before = (*progress.before, Leg(progress.dealt, progress.epoch_step))
            return replace(progress, epoch_step=0, dealt=now, before=before)
        return replace(progress, dealt=now)

    def _steps(self, progress: Progress) -> int:
        return self.reader.steps_left(progress.epoch, progress.before)

    def stretch(self, progress: Progress, until: int) -> Progress:
        """Steps up to `until` of the current epoch."""
        # Dropout draws from the step on, so that a resumed run draws what an uninterrupted one would have.
        torch.manual_seed(hash((self.config.train.seed, progress.step, self.ranks.rank)) & 0xFFFFFFFF)
        self.sharded.model.train()
        pipeline = TrainPipelineSparseDist(self.sharded.model, self.sharded.optimizer, self.ranks.device)
        limit = self.config.train.max_steps
        steps = until - progress.epoch_step
        if limit:
            steps = min(steps, limit - progress.step)
        batches = self._taken(self._rest(progress), steps)
        loss_sum = torch.zeros((), device=self.ranks.device)
        start = time.perf_counter()
        bar = tqdm(
            range(steps),
            desc=f"epoch {progress.epoch + 1}/{self.config.train.epochs}",
            unit="step",
            disable=None if self.ranks.is_first else True,
        )
        for ahead in bar:
            self.watch.at(f"step {progress.step + ahead + 1}")
            self._set_rates(progress, ahead)
            loss, *_ = pipeline.progress(batches)
            self.profile.step()
            loss_sum += loss
            if (ahead + 1) % _LOG_EVERY == 0 or ahead + 1 == steps:
                dist.all_reduce(loss_sum)
                mean = float(loss_sum) / self.ranks.world_size / (ahead % _LOG_EVERY + 1)
                self._scalar("train/loss", mean, progress.step + ahead + 1)
                loss_sum.zero_()
        self.sharded.dense_optimizer.flush()
        seconds = time.perf_counter() - start
        progress = replace(progress, step=progress.step + steps, epoch_step=progress.epoch_step + steps)
        self._open_at = progress.epoch, progress.epoch_step, progress.before
        rows = steps * self.config.train.batch_size * self.ranks.world_size
        self._scalar("train/samples_per_second", rows / max(seconds, 1e-9), progress.step)
        return progress

    def _taken(self, batches: Iterator[Batch], steps: int) -> Iterator[Batch]:
        """The first `steps` batches, and not one more is taken."""
        for _ in range(steps):
            with self.watch.within("reading rows"):
                batch = next(batches)
            yield batch

    def _set_rates(self, progress: Progress, ahead: int) -> None:
        """Rates of the step `ahead` of `progress`, by the share of the planned epochs done, whatever ranks did them."""
        train, steps = self.config.train, self._steps(progress)
        left = self.reader.rows_left(progress.epoch, progress.before) / self.reader.rows
        share = (progress.epoch + 1.0 - left + left * (progress.epoch_step + ahead) / steps) / train.epochs
        scale = height(train, share, left / steps / train.epochs)
        self.sharded.scale_rates(scale)
        if ahead % _LOG_EVERY == 0:
            self._scalar("train/lr_dense", train.lr * scale, progress.step + ahead)
            self._scalar("train/lr_tables", train.table_lr * scale, progress.step + ahead)

    def _rest(self, progress: Progress) -> Iterator[Batch]:
        """The epoch from here on; the same iterator across validations, since a new one reads its block anew."""
        if self._open_at != (progress.epoch, progress.epoch_step, progress.before):
            self._open = self.reader.epoch(progress.epoch, progress.epoch_step, progress.before)
        return self._open

    def _validate(self, progress: Progress) -> Progress:
        self.watch.at(f"the validation after step {progress.step}")
        auc, ne = validate(self.sharded, self.valid, self.ranks.device, self.watch)
        if not math.isfinite(ne):
            raise InputError(
                f"step {progress.step}: scores of split=valid are not finite: training diverged; "
                "lower train.lr or train.table_lr and give another run=..."
            )
        self._scalar("valid/auc", auc, progress.step)
        self._scalar("valid/ne", ne, progress.step)
        better = auc > progress.best_auc
        worse = 0 if better else progress.worse + 1
        best, epoch = max(auc, progress.best_auc), progress.epoch
        if progress.epoch_step >= self._steps(progress):
            epoch += 1
            progress = replace(progress, epoch=epoch, epoch_step=0, before=())
        limit = self.config.train.max_steps
        ended = epoch >= self.config.train.epochs or bool(limit and progress.step >= limit)
        done = ended or worse >= self.config.train.patience
        if self.ranks.is_first:
            note = "best so far" if better else f"{worse} without improvement"
            tqdm.write(f"step {progress.step}: valid AUC {auc:.4f}, NE {ne:.4f} ({note})")
        return replace(progress, best_auc=best, worse=worse, done=done)

    def _scalar(self, name: str, value: float, step: int) -> None:
        if self.log:
            self.log.add_scalar(name, value, step)


def validate(sharded: Sharded, reader: Reader, device: torch.device, watch: Watch | None = None) -> tuple[float, float]:
    """AUC (see `StreamedAuc`) and normalised entropy of a split, the same numbers on every rank. Collective."""
    area = StreamedAuc(device)
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # log loss, positives, rows
    for batch, (logit, label, weight, _) in enumerate(score(sharded, reader, device), 1):
        if watch:
            watch.at(f"a validation, {batch} of {reader.steps} batches done")
        real = weight > 0
        logit, label = logit[real], label[real]
        area.update(logit.sigmoid(), label)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label, reduction="sum")
        sums += torch.stack([loss.double(), label.sum().double(), label.new_tensor(len(label)).double()])
    dist.all_reduce(sums)
    rate = sums[1] / sums[2]
    entropy = -(rate * rate.log() + (1 - rate) * (1 - rate).log())
    return area.compute().value, float(sums[0] / sums[2] / entropy)
