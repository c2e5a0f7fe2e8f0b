"""What the first users of an item have in common: sums over its feedback rows, in a stream.

Of a row with label y and value v (less the user's mean, `recsys.prompt.values`), with the user's state s: mean ID
vectors of the items liked and disliked in the row's history, taken from the warm items' mean and smoothed:

    s = [sum (e - mean e) / (number + smoothing) over the liked, the same over the disliked]        [H], H = 2 D

An item's summary is the mean over its rows of

    x = [s - mean s, (s - mean s) (y - mean y), y - mean y, (s - mean s) v, v]                      [3 H + 2]

so it tells who came, how those who liked it differ from the others, and how well it is liked. A history holds what is
older than its row, and never a new item, so nothing of the scored rows is in it. The user's own ID vector is left out:
it has learned from the very rows of a warm item, and what a map makes of it there fails on new ones.

Legend: B rows, D ID width, H = 2 D, G groups of rows, T history items of a batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from recsys.coldrows.frozen import Frozen
from recsys.data.batch import Batch, Batcher
from recsys.data.encode import Block
from recsys.data.reader import concat
from recsys.evaluate.scores import read_groups
from recsys.prompt.feedback import Codes, Feedback
from recsys.prompt.values import Doubles


@dataclass(frozen=True)
class Centre:
    """Means over the warm items' drawn rows."""

    state: Doubles
    """[H]"""
    label: float


@dataclass(frozen=True)
class Sums:
    """Of G groups of rows: sums [G, 3 H + 3] of s, s y, s v, y, v and 1."""

    total: Doubles

    @property
    def rows(self) -> Doubles:
        """[G]"""
        return self.total[:, -1]

    def centre(self) -> Centre:
        """Means over all rows."""
        width = self.total.shape[1] // 3 - 1
        every = self.total.sum(0) / self.rows.sum()
        return Centre(every[:width], float(every[3 * width]))

    def summaries(self, centre: Centre) -> Doubles:
        """[G, 3 H + 2] x of each group; zero for a group without rows."""
        width = len(centre.state)
        mean = self.total / np.maximum(self.rows, 1)[:, None]
        state, liked, valued, (label, value) = *np.split(mean[:, : 3 * width], 3, axis=1), mean[:, 3 * width : -1].T
        label = (label - centre.label)[:, None]
        value = value[:, None]
        liked = liked - centre.label * state - centre.state * label
        valued = valued - centre.state * value
        found = np.concatenate([state - centre.state, liked, label, valued, value], axis=1)
        return found * (self.rows > 0)[:, None]


@dataclass(frozen=True)
class Grouping:
    """Which of G groups each of R feedback rows is in."""

    group: Codes
    """[R] 0 to G - 1; -1 is none."""
    groups: int


def sums(
    frozen: Frozen, feedback: Feedback, groupings: list[Grouping], mean: Tensor, smoothing: float, batch_size: int
) -> list[Sums]:
    """Of the rows by each grouping, in one pass over them. Collective; the result is the same on every rank.

    mean: [D] of the warm items' ID vectors. Memory: 8 (3 H + 3) bytes a group, and a row group of the split.

    Raises:
        InputError: a file that cannot be read.
    """
    width, mean = 3 * 2 * len(mean) + 3, mean.to(frozen.ranks.device)
    totals = [torch.zeros(each.groups, width, dtype=torch.float64) for each in groupings]
    for batch in _batches(frozen, feedback, batch_size):
        at = batch.row_id.cpu().numpy()
        real = at >= 0
        state, label = (
            _states(frozen, batch, mean, smoothing).cpu().double()[real],
            batch.label.cpu().double()[real, None],
        )
        value = torch.from_numpy(feedback.value[at[real]])[:, None]
        found = torch.cat([state, state * label, state * value, label, value, torch.ones_like(label)], dim=1)
        for each, total in zip(groupings, totals, strict=True):
            group = torch.from_numpy(each.group[at[real]])
            total.index_add_(0, group[group >= 0], found[group >= 0])
    for total in totals:
        dist.all_reduce(shared := total.to(frozen.ranks.device))
        total.copy_(shared)
    return [Sums(total.numpy()) for total in totals]


def _states(frozen: Frozen, batch: Batch, mean: Tensor, smoothing: float) -> Tensor:
    """[B, H] float32: s of a batch's rows. Collective."""
    vectors, known, lengths = frozen.history(batch)
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=vectors.device), lengths)
    found = []
    for liked in (1, 0):
        counted = (known & (batch.history_label == liked)).float()
        total = vectors.new_zeros(len(lengths), vectors.shape[1])
        total.index_add_(0, owner, (vectors - mean) * counted[:, None])
        number = vectors.new_zeros(len(lengths)).index_add_(0, owner, counted)
        found.append(total / (number + smoothing)[:, None])
    return torch.cat(found, dim=1)


def share(frozen: Frozen, feedback: Feedback) -> Block:
    """This rank's share of the rows, encoded, in memory."""
    return concat(list(_blocks(frozen, feedback, *_bounds(frozen, feedback))))


def _bounds(frozen: Frozen, feedback: Feedback) -> tuple[int, int]:
    begin, end = (
        len(feedback.row_id) * k // frozen.ranks.world_size for k in (frozen.ranks.rank, frozen.ranks.rank + 1)
    )
    return begin, end


def _batches(frozen: Frozen, feedback: Feedback, size: int) -> Iterator[Batch]:
    """This rank's share of the rows, as many batches as every rank has; a row's id is its place in `feedback`."""
    ranks = frozen.ranks
    batcher = Batcher(frozen.encoder, size)
    blocks = _blocks(frozen, feedback, *_bounds(frozen, feedback))
    held = next(blocks)
    largest = math.ceil(len(feedback.row_id) / ranks.world_size)
    quiet = None if ranks.is_first else True
    for _ in tqdm(range(math.ceil(largest / size)), "read feedback", unit="batch", disable=quiet):
        while len(held) < size and (block := next(blocks, None)) is not None:
            held = concat([held, block])
        cut = min(size, len(held))
        yield batcher.cut(held.slice(0, cut)).to(ranks.device)
        held = held.slice(cut, len(held))


def _blocks(frozen: Frozen, feedback: Feedback, begin: int, end: int) -> Iterator[Block]:
    """An empty block, then the rows `begin` to `end` of `feedback`, encoded, one row group at a time."""
    encoder, first = frozen.encoder, 0
    yield encoder.encode(pq.read_schema(feedback.files[0]).empty_table().select(encoder.columns()), 0)
    for file in feedback.files:
        for _, table in read_groups(file, encoder.columns()):
            low, high = np.searchsorted(feedback.row_id, [first, first + table.num_rows])
            low, high = max(int(low), begin), min(int(high), end)
            if low < high:
                yield encoder.encode(table.take(feedback.row_id[low:high] - first), low)
            first += table.num_rows
