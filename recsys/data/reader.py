"""The streaming reader: Parquet row groups dealt to ranks, shuffled in a bounded buffer, cut into equal batches.

Every rank sees the same number of batches of the same size (the last ones padded with zero weight), because torchrec's
collectives hang or misread otherwise. The order is a function of (seed, epoch), so a resumed run skips to its step
without reading what lies before.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.batch import Batch, Batcher
from recsys.data.encode import Block, Encoder
from recsys.data.jagged import Jagged
from recsys.data.schema import is_list, is_text, split_files
from recsys.errors import InputError

_EVAL_ROWS = 65536


@dataclass(frozen=True)
class Piece:
    """Rows start to stop of one row group; `first_row` is the row id of the group's first row."""

    path: Path
    group: int
    start: int
    stop: int
    first_row: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


def row_groups(files: list[Path]) -> list[Piece]:
    """Every row group of a split, whole, from Parquet footers alone.

    Raises:
        InputError: a file is truncated or not Parquet.
    """
    pieces, first_row = [], 0
    for path in files:
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: truncated or not Parquet: {error}") from None
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            pieces.append(Piece(path, group, 0, rows, first_row))
            first_row += rows
    return pieces


def deal(pieces: list[Piece], rank: int, world_size: int) -> list[Piece]:
    """Rank's contiguous share of the rows, equal to within one row; a group on a border is read by both sides."""
    total = sum(piece.rows for piece in pieces)
    low, high = rank * total // world_size, (rank + 1) * total // world_size
    dealt = []
    for piece, end in zip(pieces, accumulate(piece.rows for piece in pieces), strict=True):
        begin = end - piece.rows
        start, stop = max(low, begin), min(high, end)
        if start < stop:
            dealt.append(
                Piece(piece.path, piece.group, piece.start + start - begin, piece.start + stop - begin, piece.first_row)
            )
    return dealt


class Reader:
    """Batches of one split for one rank.

    Args:
        encoder: fitted maps and scalers.
        split: train, valid, test or feedback.
        batch_size: B, rows a batch on this rank.
        rank, world_size: this rank's place.
        shuffle: rows in the shuffle buffer; 0 keeps the order of the files.
        hide_ids, hide_users: see `Batcher`.

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
    ) -> None:
        self.encoder, self.rank, self.world_size = encoder, rank, world_size
        self.shuffle, self.seed = shuffle, seed
        self._text_columns = cache(text_columns)
        self.batcher = Batcher(encoder, batch_size, hide_ids, hide_users)
        self.groups = row_groups(split_files(Path(encoder.config.data.path), split))
        self.rows = sum(piece.rows for piece in self.groups)
        if not self.rows:
            raise InputError(f"{encoder.config.data.path}: no rows in split {split!r}")

    @property
    def steps(self) -> int:
        """Batches an epoch, the same on every rank."""
        largest_share = -(-self.rows // self.world_size)
        return -(-largest_share // self.batcher.batch_size)

    def epoch(self, epoch: int = 0, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from `start_step` on; blocks before it are not read."""
        size, step = self.batcher.batch_size, start_step
        rest = self._nothing()
        for loaded in self._loaded(epoch, skip=start_step * size):
            block = concat([rest, loaded])
            whole = len(block) // size * size
            for start in range(0, whole, size):
                yield self._cut(block, np.arange(start, start + size), epoch, step)
                step += 1
            rest = take(block, np.arange(whole, len(block)))
        while step < self.steps:
            yield self._cut(rest, np.arange(len(rest)), epoch, step)
            rest = take(rest, np.arange(0))
            step += 1

    def _loaded(self, epoch: int, skip: int) -> Iterator[Block]:
        """Shuffled blocks of an epoch without its first `skip` rows; the next is read while one is consumed."""
        order = np.random.default_rng([self.seed, epoch])
        groups = [self.groups[k] for k in order.permutation(len(self.groups))] if self.shuffle else self.groups
        jobs = []
        for k, pieces in enumerate(_blocks(deal(groups, self.rank, self.world_size), self.shuffle or _EVAL_ROWS)):
            rows = sum(piece.rows for piece in pieces)
            if skip < rows:
                # A stream of its own for each block: skipping one does not change the order of the others.
                jobs.append((pieces, np.random.default_rng([self.seed, epoch, k]), skip))
            skip = max(0, skip - rows)
        with ThreadPoolExecutor(1, thread_name_prefix="reader") as pool:
            coming = [pool.submit(self._load, *job) for job in jobs[:1]]
            for job in [*jobs[1:], None]:
                block = coming.pop().result() if coming else None
                if job:
                    coming.append(pool.submit(self._load, *job))
                if block:
                    yield block

    def _cut(self, block: Block, rows: np.ndarray, epoch: int, step: int) -> Batch:
        return self.batcher.cut(block, rows, salt=hash((self.seed, epoch, step, self.rank)) & 0xFFFFFFFF)

    def _nothing(self) -> Block:
        path = self.groups[0].path
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: truncated or not Parquet: {error}") from None
        return self.encoder.encode(schema.empty_table().select(self.encoder.columns()), 0)

    def _load(self, pieces: list[Piece], order: np.random.Generator, skip: int) -> Block:
        block = concat([read(self.encoder, piece, self._text_columns) for piece in pieces])
        rows = order.permutation(len(block)) if self.shuffle else np.arange(len(block))
        return take(block, rows[skip:])


def read(encoder: Encoder, piece: Piece, text_columns: Callable[[Path], list[str]]) -> Block:
    """The encoded rows of one piece. `text_columns` is the function of that name, or a cached form of it.

    Raises:
        InputError: the file cannot be read, named with its row group.
    """
    try:
        with pq.ParquetFile(piece.path, read_dictionary=text_columns(piece.path)) as file:
            table = file.read_row_group(piece.group, columns=encoder.columns())
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{piece.path}: row group {piece.group}: cannot be read: {error}") from None
    return encoder.encode(table.slice(piece.start, piece.rows), piece.first_row + piece.start)


def text_columns(path: Path) -> list[str]:
    """Columns to read dictionary-encoded, so that only distinct strings are hashed."""
    names = []
    for field in pq.read_schema(path):
        if is_text(field.type):
            names.append(field.name)
        elif is_list(field.type) and is_text(field.type.value_type):
            names.append(f"{field.name}.list.element")
    return names


def _blocks(pieces: list[Piece], rows: int) -> list[list[Piece]]:
    blocks: list[list[Piece]] = [[]]
    held = 0
    for piece in pieces:
        if held >= rows:
            blocks.append([])
            held = 0
        blocks[-1].append(piece)
        held += piece.rows
    return [block for block in blocks if block]


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
    where = block.history.index(rows)
    return Block(
        user=block.user[rows],
        item=block.item[rows],
        item_row=block.item_row[rows],
        single=block.single[rows],
        multi=[column.take(rows) for column in block.multi],
        dense=block.dense[rows],
        history=Jagged(block.history.values[where.values], where.offsets),
        history_label=block.history_label[where.values],
        content=block.content[rows],
        history_content=block.history_content[where.values],
        label=block.label[rows],
        row_id=block.row_id[rows],
    )
