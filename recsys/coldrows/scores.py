"""A run's own scores of its test rows, with those of K items replaced by what rows of their own make of them.

They cost 5 bytes a test row on the first rank, less than evaluation takes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.learned import Learned
from recsys.coldrows.rescore import rescore, under
from recsys.config import Config
from recsys.data.batch import Batch
from recsys.data.pieces import row_groups
from recsys.data.reader import Reader
from recsys.data.schema import read_info, split_files
from recsys.distributed import Ranks, on_first
from recsys.errors import InputError
from recsys.evaluate.scores import read_scores
from recsys.rivals.rows import Scored, write_scores
from recsys.storage import at

_CHUNK = 65536
_SAME, _SAME_BF16 = 1e-3, 3e-2
"""Probabilities of one row under other ranks, another sharding or another device differ by less. A bfloat16 keeps 8
bits: a logit of 2 to 4 comes in steps of 1/64, which is up to 0.002 of a probability, and each layer before it rounds
as well."""


def base_scores(config: Config, ranks: Ranks) -> NDArray[np.float32]:
    """[test rows] scores of the run's own; on the first rank only.

    Raises:
        InputError: there are none, or they are of another dataset.
    """
    dataset, path = at(config.data.path), Path(config.run) / "scores" / "test"
    held: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]

    def load() -> None:
        if not path.exists():
            raise InputError(f"{path}: no scores of the base: run tools.predict with this config first")
        rows = sum(group.rows for group in row_groups(split_files(dataset, "test")))
        held[0] = read_scores(path, rows, "test", read_info(dataset).fingerprint)

    on_first(ranks, load)
    return held[0]


def require_agreement(frozen: Frozen, scores: NDArray[np.float32]) -> None:
    """Refuse scores that the frozen ranker would not give, on the rows of a test batch that will keep them. Collective.

    Raises:
        InputError: they differ.
    """
    ranks, config = frozen.ranks, frozen.encoder.config
    reader = Reader(frozen.encoder, "test", config.evaluate.batch_size, ranks.rank, ranks.world_size)
    batch = next(reader.epoch()).to(ranks.device)
    with torch.no_grad():
        score = frozen.logits(batch, frozen.unknown().repeat(frozen.count, 1)).sigmoid()
    target = batch.items[frozen.encoder.spec.item.name].values().cpu().numpy()
    kept = (batch.weight > 0).cpu().numpy() & (frozen.place(target) < 0)
    row_id, found = batch.row_id.cpu().numpy()[kept], score.cpu().numpy()[kept]

    def compare() -> None:
        apart = np.abs(scores[row_id] - found).max(initial=0.0)
        if apart > (_SAME_BF16 if config.train.bf16 else _SAME):
            raise InputError(
                f"{Path(config.run) / 'scores' / 'test'}: not the scores of the run's best checkpoint: "
                "run tools.predict again"
            )

    on_first(ranks, compare)


def rescored(frozen: Frozen, score_of: Callable[[Batch], Tensor], base: NDArray[np.float32]) -> Iterator[Scored]:
    """The scores of all test rows in chunks: `base` for those of other items, and the K items' by `score_of`.

    Collective: all ranks have done their part when it returns; the chunks, which overwrite `base`, are the first
    rank's.

    Raises:
        InputError: a file that cannot be read.
    """
    for row_id, score in rescore(frozen, score_of, "test", frozen.encoder.config.evaluate.batch_size):
        if frozen.ranks.is_first:
            base[row_id] = score
    return chunks(base)


def chunks(scores: NDArray[np.float32]) -> Iterator[Scored]:
    """Row ids and scores of all rows, to be written."""
    for begin in range(0, len(scores), _CHUNK):
        part = scores[begin : begin + _CHUNK]
        yield np.arange(begin, begin + len(part)), part.astype(np.float64)


def score(frozen: Frozen, rows: Learned, path: Path, exposure: int) -> None:
    """`score_by` the learned items' rows. Collective."""
    score_by(frozen, under(frozen, rows.vectors.to(frozen.ranks.device)), path, exposure, rows.about.key)


def score_by(frozen: Frozen, score_of: Callable[[Batch], Tensor], path: Path, exposure: int, key: str) -> None:
    """Write the run's scores of its test rows, with those of the K items by `score_of`. Collective.

    score_of: probabilities [B] of a batch. exposure: the real rows of each new item that they are made from. key:
        digest of all that they depend on.

    Raises:
        InputError: the run has no scores of its own, or they are not of its best checkpoint.
    """
    config = frozen.encoder.config
    base = base_scores(config, frozen.ranks)
    require_agreement(frozen, base)
    found = rescored(frozen, score_of, base)
    told = {"dataset": read_info(config.data.path).fingerprint, "exposure": str(exposure), "key": key}
    on_first(frozen.ranks, lambda: write_scores(path, found, **told))


def scored(path: Path, key: str) -> bool:
    """Whether `score` has written there for rows of this key."""
    return path.exists() and (pq.read_schema(path).metadata or {}).get(b"key") == key.encode()
