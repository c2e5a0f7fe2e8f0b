"""What every rival reads and writes: encoded blocks of a split in row order, and scores as Parquet."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.data.encode import Block, Encoder
from recsys.data.pieces import row_groups
from recsys.data.reader import read
from recsys.data.schema import SCORES, split_files
from recsys.data.stored import footers
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
    known = footers()
    for piece in groups:
        yield read(encoder, piece, known)


def write_scores(path: Path, scored: Iterable[Scored], **told: str) -> Path:
    """Write (row_id int64, score float32) as one Parquet file, under a temporary name until it is whole.

    told: for evaluation to compare: `dataset`, the fingerprint of that whose rows the row ids number, and `exposure`,
    the kept rows of each new item that the scores were made from.
    """
    schema = SCORES.with_metadata(told)
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for row_id, probability in scored:
            writer.write_batch(pa.record_batch([row_id, probability.astype(np.float32)], schema=schema))
    return path


def logit(probability: Doubles) -> Doubles:
    """Log odds of probabilities strictly between 0 and 1."""
    return np.log(probability) - np.log1p(-probability)


def sigmoid(log_odds: Doubles) -> Doubles:
    """Probability of log odds, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds))
