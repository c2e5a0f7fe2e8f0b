"""Score a split's rows of the K items, in a stream."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from recsys.coldrows.frozen import Frozen
from recsys.data.batch import Batch, Batcher
from recsys.data.encode import Block
from recsys.data.pieces import Piece, deal, row_groups
from recsys.data.reader import concat, nothing, read, take
from recsys.data.schema import split_files
from recsys.data.stored import footers

Scores = tuple[NDArray[np.int64], NDArray[np.float32]]
"""[n] row ids and [n] probabilities."""


def rescore(
    frozen: Frozen,
    score_of: Callable[[Batch], Tensor],
    split: str,
    batch_size: int,
    wanted: NDArray[np.bool_] | None = None,
) -> Iterator[Scores]:
    """Scores of the rows of `split` whose target is one of the K items. Collective.

    score_of: probabilities [B] of a batch on this rank's device.
    wanted: by row id, which of these rows; None is all.

    Each rank reads its share of the split; every rank is given the scores of all. Other rows have the ranker's own.

    Raises:
        InputError: a file that cannot be read.
    """
    ranks = frozen.ranks
    batches = _batches(frozen, split, Batcher(frozen.encoder, batch_size), wanted)
    while True:
        batch = next(batches).to(ranks.device)
        with torch.no_grad():
            score = score_of(batch)
        row_ids = torch.empty(ranks.world_size * batch_size, dtype=torch.int64, device=ranks.device)
        scores = row_ids.new_empty(len(row_ids), dtype=torch.float32)
        dist.all_gather_into_tensor(row_ids, batch.row_id)
        dist.all_gather_into_tensor(scores, score)
        real = row_ids >= 0
        if not real.any():
            return
        yield row_ids[real].cpu().numpy(), scores[real].cpu().numpy()


def under(frozen: Frozen, rows_KD: Tensor) -> Callable[[Batch], Tensor]:
    """The frozen ranker's own probabilities under E = `rows_KD`."""
    return lambda batch: frozen.logits(batch, rows_KD).sigmoid()


def _batches(frozen: Frozen, split: str, batcher: Batcher, wanted: NDArray[np.bool_] | None) -> Iterator[Batch]:
    """This rank's batches, and padding without end behind them, for ranks that have more."""
    ranks, size = frozen.ranks, batcher.batch_size
    groups = row_groups(split_files(frozen.encoder.config.data.path, split))
    pieces = deal(groups, ranks.rank, ranks.world_size)
    quiet = None if ranks.is_first else True
    known = footers()

    def cold(piece: Piece) -> Block:
        block = read(frozen.encoder, piece, known)
        block = take(block, np.flatnonzero(frozen.place(block.item_row) >= 0))
        return block if wanted is None else take(block, np.flatnonzero(wanted[block.row_id]))

    held = nothing(frozen.encoder, groups[0].path)
    for piece in tqdm(pieces, f"rescore {split}", unit="row group", disable=quiet):
        held = concat([held, cold(piece)])
        while len(held) >= size:
            yield batcher.cut(held.slice(0, size))
            held = held.slice(size, len(held))
    while True:
        yield batcher.cut(held)
        held = held.slice(0, 0)
