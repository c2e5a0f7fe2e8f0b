"""The streaming reader: Parquet row groups dealt to ranks, shuffled in a bounded buffer, cut into equal batches.

Every rank sees the same number of batches of the same size (the last ones padded with zero weight), because torchrec's
collectives hang or misread otherwise. The order is a function of (seed, epoch) and of how rows are dealt, so a resumed
run skips to its step without reading what lies before. Under other ranks the order is another: a run resumed so in the
middle of an epoch is dealt the rows that are left of it, each once.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch

from recsys.data import parquet
from recsys.data.batch import Batch, Batcher
from recsys.data.downsample import Negatives
from recsys.data.encode import Block, Encoder
from recsys.data.jagged import Jagged
from recsys.data.pieces import Dealt, Leg, Piece, blocks, left, order, row_groups
from recsys.data.schema import split_files
from recsys.data.stored import Footers, footers, read_group
from recsys.errors import InputError
from recsys.storage import Location

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Job:
    """The block of an epoch with its number, and how many of its rows are skipped once they are shuffled."""

    pieces: list[Piece]
    seed: list[int]
    number: int
    skip: int


class Reader:
    """Batches of one split for one rank.

    Args:
        encoder: fitted maps and scalers.
        split: train, valid, test or feedback.
        batch_size: B, rows a batch on this rank.
        rank, world_size: this rank's place.
        shuffle: rows in the shuffle buffer; 0 keeps the order of the files.
        hide_ids, hide_users: see `Batcher`.
        keep_negatives: see `Negatives`.

    Raises:
        InputError: the split has no rows, or a file cannot be read, named with its row group.
    """

    def __init__(
        self,
        encoder: Encoder,
        split: str,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: int = 0,
        seed: int = 0,
        hide_ids: float = 0.0,
        hide_users: float = 0.0,
        keep_negatives: float = 1.0,
    ) -> None:
        self.encoder, self.rank, self.seed = encoder, rank, seed
        self.dealt = Dealt(world_size, batch_size, shuffle)
        self._footers = footers()
        self.batcher = Batcher(encoder, batch_size, hide_ids, hide_users)
        self.groups = row_groups(split_files(encoder.config.data.path, split))
        self._negatives = Negatives(self.groups, keep_negatives, seed) if keep_negatives < 1.0 else None
        self._planned = lru_cache(maxsize=1)(self._plan)
        self.rows = self.rows_left(0)
        if not self.rows:
            raise InputError(f"{encoder.config.data.path}: no rows in split {split!r}")

    @property
    def steps(self) -> int:
        """Batches an epoch, the same on every rank and in every epoch."""
        return self._steps(self.rows)

    def rows_left(self, epoch: int, before: tuple[Leg, ...] = ()) -> int:
        """Rows of an epoch that the legs `before` have left, over all ranks."""
        return self._planned(epoch, before)[1]

    def steps_left(self, epoch: int, before: tuple[Leg, ...] = ()) -> int:
        """Batches of an epoch after the legs `before`, the same on every rank."""
        return self._steps(self.rows_left(epoch, before))

    def _steps(self, rows: int) -> int:
        largest_share = -(-rows // self.dealt.world_size)
        return -(-largest_share // self.dealt.batch_size)

    def epoch(self, epoch: int = 0, start_step: int = 0, before: tuple[Leg, ...] = ()) -> Iterator[Batch]:
        """The batches of one epoch from `start_step` on; blocks before it are not read.

        before: what other ranks have read of the epoch, before this one's first step.
        """
        steps = self.steps_left(epoch, before)
        blocks_ = self._loaded(epoch, start_step * self.dealt.batch_size, before)
        for step, rows in zip(range(start_step, steps), self._batches(blocks_), strict=False):
            yield self.batcher.cut(rows, salt=hash((self.seed, epoch, step, self.rank)) & 0xFFFFFFFF)

    def _batches(self, loaded: Iterator[Block]) -> Iterator[Block]:
        """Rows of a batch each, the last fewer, and none without end behind them."""
        size, rest = self.dealt.batch_size, nothing(self.encoder, self.groups[0].path)
        for block in loaded:
            start = min(-len(rest) % size, len(block))
            if start:
                rest = concat([rest, block.slice(0, start)])
                if len(rest) < size:
                    continue
                yield rest
            stop = len(block) - (len(block) - start) % size
            for at in range(start, stop, size):
                yield block.slice(at, at + size)
            rest = block.slice(stop, len(block))
        while True:
            yield rest
            rest = rest.slice(0, 0)

    def _plan(self, epoch: int, before: tuple[Leg, ...]) -> tuple[list[Piece], int]:
        """The row groups of an epoch in its order, minus what the legs have read, and their rows: for all ranks."""
        groups = self._negatives.epoch(epoch) if self._negatives else self.groups
        if self.dealt.shuffle:
            groups = [groups[k] for k in np.random.default_rng([self.seed, epoch]).permutation(len(groups))]
        for leg in before:
            groups = left(groups, leg, [self.seed, epoch])
        return groups, sum(piece.rows for piece in groups)

    def _loaded(self, epoch: int, skip: int, before: tuple[Leg, ...]) -> Iterator[Block]:
        """Shuffled blocks without their first `skip` rows.

        The next is made while one is consumed, and a row group read while the one before it is encoded.
        """
        jobs = []
        for k, pieces in enumerate(blocks(self._planned(epoch, before)[0], self.dealt, self.rank)):
            rows = sum(piece.rows for piece in pieces)
            if skip < rows:
                jobs.append(Job(pieces, [self.seed, epoch], k, skip))
            skip = max(0, skip - rows)
        with ThreadPoolExecutor(2, thread_name_prefix="reader") as pool:
            columns, every = self.encoder.columns(), (piece for job in jobs for piece in job.pieces)
            tables = ahead(pool, lambda piece: read_group(piece, columns, self._footers), every)
            yield from ahead(pool, lambda job: self._load(job, tables), jobs)

    def _load(self, job: Job, tables: Iterator[pa.Table]) -> Block:
        block = concat([encoded(self.encoder, *each) for each in zip(job.pieces, tables, strict=False)])
        if not self.dealt.shuffle:
            return block.slice(job.skip, len(block))
        return take(block, order(len(block), self.dealt, job.seed, job.number)[job.skip :])


def ahead(pool: Executor, function: Callable[[A], B], arguments: Iterable[A]) -> Iterator[B]:
    """The function of each argument, in order; the next is computed while one is used."""
    coming: list[Future[B]] = []
    for argument in arguments:
        done = [each.result() for each in coming]
        coming = [pool.submit(function, argument)]
        yield from done
    yield from (each.result() for each in coming)


def read(encoder: Encoder, piece: Piece, known: Footers) -> Block:
    """The encoded rows of one piece.

    Raises:
        InputError: the file cannot be read or is another by now, named with its row group.
    """
    return encoded(encoder, piece, read_group(piece, encoder.columns(), known))


def encoded(encoder: Encoder, piece: Piece, table: pa.Table) -> Block:
    """The encoded rows of a piece of the row group `table`."""
    if piece.draw is None and piece.picked is None:
        return encoder.encode(table.slice(piece.start, piece.rows), piece.first_row + piece.start)
    places = piece.places(table["label"].to_numpy())
    return replace(encoder.encode(table.take(places), 0), row_id=piece.first_row + places)


def nothing(encoder: Encoder, path: Location) -> Block:
    """A block without rows, of a file's footer alone.

    Raises:
        InputError: the file is truncated or not Parquet.
    """
    try:
        schema = parquet.schema_of(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: truncated or not Parquet: {error}") from None
    return encoder.encode(schema.empty_table().select(encoder.columns()), 0)


def concat(blocks: list[Block]) -> Block:
    """All rows of all blocks, in order."""
    if len(blocks) == 1:
        return blocks[0]

    def join(name: str) -> object:
        parts = [getattr(block, name) for block in blocks]
        if isinstance(parts[0], Jagged):
            return Jagged.concat(parts)
        if isinstance(parts[0], list):
            return [Jagged.concat(list(column)) for column in zip(*parts, strict=True)]
        return np.concatenate(parts)

    return Block(**{item.name: join(item.name) for item in fields(Block)})  # type: ignore[arg-type]


def take(block: Block, rows: np.ndarray) -> Block:
    """The rows `rows` ([k] int64 positions) of a block, in that order."""
    events = _picked(block.events, rows)
    return Block(
        user=block.user.take(rows),
        item=block.item.take(rows),
        item_row=block.item_row.take(rows),
        single=block.single.take(rows, axis=0),
        multi=[column.take(rows) for column in block.multi],
        dense=block.dense.take(rows, axis=0),
        events=events,
        content=block.content.take(rows, axis=0),
        history_content=_contents_of(block, rows, len(events.values)),
        label=block.label.take(rows),
        weight=block.weight.take(rows),
        row_id=block.row_id.take(rows),
    )


def _picked(lists: Jagged, rows: np.ndarray) -> Jagged:
    """`lists.take(rows)`, several times as fast, but no faster for few rows: it looks at all lengths."""
    places, lengths = torch.from_numpy(rows.astype(np.int32)), torch.from_numpy(lists.lengths)
    picked, values, _ = torch.ops.fbgemm.permute_1D_sparse_data(places, lengths, torch.from_numpy(lists.values))
    return Jagged(values.numpy(), np.concatenate([[0], np.cumsum(picked.numpy())]))


def _contents_of(block: Block, rows: np.ndarray, events: int) -> np.ndarray:
    """[events, C] content rows of the histories of `rows`."""
    content = block.history_content
    return content[block.events.index(rows).values] if content.shape[1] else np.zeros((events, 0), content.dtype)
