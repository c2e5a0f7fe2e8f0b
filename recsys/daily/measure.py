"""AUC of rows by several models, with intervals and paired differences: a day ahead, and what is kept of early days.

    ahead: all rows of a day, before any model was trained on one of them: `all`; `new`, of items that have had no
        training row before that day, or none that a table of declared capacity had a row for; `old`, of the others.
    kept: rows of the first model's days that no model was trained on: `all`; `gone`, of items without a training row
        since, replayed ones counted.

Legend: N rows, S systems, U users, I items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config, Evaluate
from recsys.data.encode import ITEM, Encoder
from recsys.data.ids import IdMap
from recsys.data.reader import Reader
from recsys.data.schema import read_info
from recsys.distributed import Ranks, of_first
from recsys.evaluate import metrics
from recsys.evaluate.bootstrap import Judged, Sample, Weights, resample
from recsys.evaluate.scores import Rows, read_rows, read_scores
from recsys.evaluate.segments import training_counts
from recsys.evaluate.ties import id_keys
from recsys.predict import write
from recsys.tables import checkpoint
from recsys.train import build

Results = dict[str, dict[str, Any]]
"""By segment: `rows` and their `users`; unless they are too few, of each system, and of the first one less each other,
[AUC, low, high]."""
Mask = NDArray[np.bool_]
OURS = "continued"
AHEAD, KEPT = ("train", "valid", "test"), ("test",)
"""The splits that are scored."""


def score(system: Config, dataset: Path, splits: Sequence[str], folder: Path, ranks: Ranks) -> None:
    """Score splits of any dataset of the same columns by a run's best model, into `folder`/<split>. Collective."""
    run = Path(system.run)
    elsewhere = replace(system, data=replace(system.data, path=str(dataset)))
    encoder = Encoder.load(elsewhere, run / "encoder")
    sharded = build(system, encoder, ranks)
    checkpoint.load(of_first(ranks, lambda: checkpoint.best(run / "checkpoints")), sharded, optimizer=False)
    for split in splits:
        reader = Reader(encoder, split, system.evaluate.batch_size, ranks.rank, ranks.world_size)
        write(sharded, reader, folder / split, ranks)


def ahead(dataset: Path, before: Config, scores: Mapping[str, Path]) -> Results:
    """Judge scores of a day's rows; `before` is the run whose model was trained on the days before."""
    splits = present(dataset)
    parts = [read_rows(dataset, split) for split in splits]
    known = IdMap.load(Path(before.run) / "encoder" / f"{ITEM}.parquet")
    counts = np.append(0, known.counts)  # by row: an id that has only been admitted has one, and no training row
    new = np.concatenate([(counts[known.rows(part.items)] == 0)[part.item] for part in parts])
    masks = {"all": np.ones(len(new), bool), "new": new, "old": ~new}
    return _judged(_Judge(dataset, splits, parts), scores, masks, before.evaluate)


def present(dataset: Path) -> list[str]:
    """The splits of `AHEAD` that a day has rows of."""
    counts = read_info(dataset).counts
    return [split for split in AHEAD if counts.get(split)]


def kept(dataset: Path, since: Sequence[Path], scores: Mapping[str, Path], options: Evaluate) -> Results:
    """Judge scores of rows held back from early days; `since` are what was trained on after them."""
    rows = read_rows(dataset, KEPT[0])
    trained = sum((training_counts(day, rows.items) for day in since), np.zeros(len(rows.items), np.int64))
    masks = {"all": np.ones(len(rows.label), bool), "gone": (trained == 0)[rows.item]}
    return _judged(_Judge(dataset, KEPT, [rows]), scores, masks, options)


@dataclass(frozen=True)
class _Judge:
    """The rows of some splits of a dataset."""

    dataset: Path
    splits: Sequence[str]
    parts: Sequence[Rows]

    def sample(self) -> Sample:
        """All of them, users and items by their hashes."""
        users = np.concatenate([id_keys(part.users)[part.user] for part in self.parts])
        items = np.concatenate([id_keys(part.items)[part.item] for part in self.parts])
        user_keys, user = np.unique(users, return_inverse=True)
        item_keys, item = np.unique(items, return_inverse=True)
        label = np.concatenate([part.label for part in self.parts])
        return Sample.of(user.astype(np.int32), item.astype(np.int32), label, user_keys, item_keys)

    def scores(self, folder: Path) -> NDArray[np.float32]:
        """[N] of one system."""
        mark = read_info(self.dataset).fingerprint
        each = zip(self.parts, self.splits, strict=True)
        return np.concatenate([read_scores(folder / split, len(part.label), split, mark) for part, split in each])


def _judged(judge: _Judge, folders: Mapping[str, Path], masks: Mapping[str, Mask], options: Evaluate) -> Results:
    every = judge.sample()
    scores = {name: judge.scores(folder) for name, folder in folders.items()}
    found: Results = {}
    for segment, mask in masks.items():
        sample = every.of(every.user[mask], every.item[mask], every.label[mask], every.user_key, every.item_key)
        found[segment] = {"rows": len(sample.label), "users": sample.users}
        enough = len(sample.label) >= options.min_rows and sample.users >= options.min_users
        if enough and 0 < sample.label.sum() < len(sample.label):
            judged = _auc(sample, [score[mask] for score in scores.values()], options)
            found[segment] |= _told(judged, list(scores))
    return found


def _auc(sample: Sample, scores: Sequence[NDArray[np.float32]], options: Evaluate) -> Judged:
    """AUC [S, 1] and its replicates."""
    ranked = [metrics.rank(score, sample.label) for score in scores]

    def under(user_weight: Weights, item_weight: Weights) -> NDArray[np.float64]:
        weight = user_weight[sample.user] * item_weight[sample.item]
        return np.array([[metrics.auc(pairs, weight)] for pairs in ranked])

    return resample(sample, under, options.replicates, options.seed)


def _told(judged: Judged, names: Sequence[str]) -> dict[str, list[float]]:
    told = {name: judged.interval(k)[0].tolist() for k, name in enumerate(names)}
    return told | {f"{names[0]} - {names[k]}": judged.difference(0, k)[0].tolist() for k in range(1, len(names))}
