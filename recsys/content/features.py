"""Content vectors with the items' features in them: [text vector, one-hot categories, standardised numbers].

A sentence encoder knows of the year 1994 what it knows of any word, and a ridge has few items to learn the rest from.
On MovieLens-1M's cold items, ridge to the vectors of MF gained 0.03 Recall@20 by year and genres beside the texts.

Each block is centred and scaled to a mean square length of 1, so that none drowns another; an item without a text is at
the middle of that block. All vectors are in memory, as float64. Categories of fewer than `RARE` items have no column.

Legend: I items, H width of the text vectors, C categories.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config import Feature
from recsys.data.schema import ITEMS
from recsys.data.side import Scaler, decoded, floats, lists
from recsys.data.vectors import of
from recsys.errors import InputError
from recsys.files import replacing

RARE = 5
"""What fewer items share tells nothing of others."""

Matrix = NDArray[np.float64]


def join(dataset: Path, texts: Path, features: list[Feature], path: Path) -> Path:
    """Write (item_id, vector) of every item of the dataset into `path`, which may be `texts`.

    texts: Parquet (item_id, vector). features: of which those of items are used.

    Raises:
        InputError: `texts` is not as it should be, no feature is of items, or items.parquet lacks a column of one.
    """
    ids, blocks = _blocks(dataset, features)
    blocks = [of(texts, ids), *blocks]
    made = np.concatenate([_balanced(block) for block in blocks if block.shape[1]], axis=1).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), made.shape[1])
    with replacing(path) as temporary:
        pq.write_table(pa.table({"item_id": ids, "vector": vectors}), temporary)
    return path


def alone(dataset: Path, features: list[Feature]) -> tuple[pa.Array, NDArray[np.float32]]:
    """Ids [I] of items.parquet and their features [I, F] as in `join`, without a text.

    Raises:
        InputError: no feature is of items, items.parquet lacks a column of one, or there is nothing in them to keep.
    """
    ids, blocks = _blocks(dataset, features)
    kept = [_balanced(block) for block in blocks if block.shape[1]]
    if not kept:
        raise InputError(f"features: no value of an item's is shared by {RARE} items: expected one that is")
    return ids, np.concatenate(kept, axis=1).astype(np.float32)


def _blocks(dataset: Path, features: list[Feature]) -> tuple[pa.Array, list[Matrix]]:
    used = [feature for feature in features if feature.of == "item"]
    if not used:
        raise InputError("features: expected one of: item among them, found none")
    names = pq.read_schema(dataset / ITEMS).names
    if missing := [feature.name for feature in used if feature.name not in names]:
        raise InputError(f"{dataset / ITEMS}: expected a column {missing[0]}, which the config names, found {names}")
    table = pq.read_table(dataset / ITEMS, columns=["item_id", *dict.fromkeys(feature.name for feature in used)])
    return decoded(table["item_id"]).combine_chunks(), [_block(table[feature.name], feature) for feature in used]


def _block(column: pa.ChunkedArray, feature: Feature) -> Matrix:
    """[I, C] of zeros and ones, or [I, 1]."""
    if feature.kind == "dense":
        values = floats(column)
        return Scaler.fit(values, np.ones(len(values)), feature.log)(values).astype(np.float64)[:, None]
    if feature.kind == "multi":
        values, offsets = lists(column)
    else:
        values, offsets = column.combine_chunks(), np.arange(len(column) + 1)
    values = decoded(values)
    counts = pc.value_counts(values.drop_null())
    kept = counts.field("values").filter(pc.greater_equal(counts.field("counts"), RARE))
    code = pc.index_in(values, kept)
    known = code.is_valid().to_numpy(zero_copy_only=False)
    made = np.zeros((len(column), len(kept)))
    made[np.repeat(np.arange(len(column)), np.diff(offsets))[known], code.drop_null().to_numpy()] = 1
    return made


def _balanced(block: Matrix) -> Matrix:
    apart = np.nan_to_num(block - np.nanmean(block, axis=0))
    return apart / max(float(np.square(apart).sum(axis=1).mean()), 1e-12) ** 0.5
