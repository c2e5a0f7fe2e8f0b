"""What every rival reads and writes: encoded blocks of a split in row order, and scores as Parquet."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.data.encode import Block, Encoder
from recsys.data.reader import row_groups
from recsys.data.schema import HISTORY_LEAF, SCORES, split_files
from recsys.errors import InputError
from recsys.files import replacing

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Scored = tuple[Ints, Doubles]
"""[n] row ids and [n] probabilities."""


def blocks(encoder: Encoder, split: str) -> Iterator[Block]:
    """The rows of a split, encoded, one row group at a time, in row id order.

    Raises:
        InputError: the split does not exist, or a file cannot be read.
    """
    root = Path(encoder.config.data.path)
    groups = row_groups(split_files(root, split))
    if not groups:
        raise InputError(f"{root}: split {split!r} has no files")
    for piece in groups:
        try:
            with pq.ParquetFile(piece.path, read_dictionary=[HISTORY_LEAF]) as file:
                table = file.read_row_group(piece.group, columns=encoder.columns())
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{piece.path}: row group {piece.group}: cannot be read: {error}") from None
        yield encoder.encode(table, piece.first_row)


def write_scores(path: Path, scored: Iterable[Scored]) -> Path:
    """Write (row_id int64, score float32) as one Parquet file, under a temporary name until it is whole."""
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCORES) as writer:
        for row_id, probability in scored:
            writer.write_batch(pa.record_batch([row_id, probability.astype(np.float32)], schema=SCORES))
    return path


def logit(probability: Doubles) -> Doubles:
    """Log odds of probabilities strictly between 0 and 1."""
    return np.log(probability) - np.log1p(-probability)


def sigmoid(log_odds: Doubles) -> Doubles:
    """Probability of log odds, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds))
