"""The scores of one system for all pairs of users and items, of one whose scores are no dot products of vectors.

    DIR/user_id/*.parquet, or DIR/user_id.parquet        id, vector: the user's scores of A items
    DIR/item_id/*.parquet, or DIR/item_id.parquet        id, axis: the item's place among them

Ids are as in `recsys.evaluate.vectors`. What has no row scores 0 everywhere. In memory are 4 U I bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.evaluate.positives import index
from recsys.evaluate.scores import read_groups
from recsys.evaluate.vectors import ITEMS, USERS, parts_of, require_once, vectors_of
from recsys.files import replacing

AXIS = "axis"


@dataclass(frozen=True)
class Matrix:
    """One system: it scores user u and item i by `scores[u, i]`."""

    scores: NDArray[np.float32]
    """[U, I]"""
    unknown_users: NDArray[np.bool_]
    """[U] users without a row."""
    unknown_items: NDArray[np.bool_]
    """[I] items without one."""


def is_matrix(folder: Path) -> bool:
    """Whether a system's folder holds scores and not vectors.

    Raises:
        InputError: no file of items.
    """
    return AXIS in pq.read_schema(parts_of(folder, ITEMS)[0]).names


def read(folder: Path, users: pa.Array, items: pa.Array) -> Matrix:
    """The scores of the raw ids `users` [U] for `items` [I].

    Raises:
        InputError: a missing file or column; an id of another type than the dataset's, or there twice; scores that are
            null or not finite; or an axis that is no place among them.
    """
    scores, unknown_users = vectors_of(folder, USERS, users)
    places, axis = index("item_id", items), np.full(len(items) + 1, -1, np.int64)
    for file in parts_of(folder, ITEMS):
        for group, table in read_groups(file, ["id", AXIS]):
            where, place = f"{file}: row group {group}", places.rows(table["id"])
            if not pa.types.is_integer(table[AXIS].type) or table[AXIS].null_count:
                raise InputError(f"{where}: column {AXIS!r}: expected integers without null, found {table[AXIS].type}")
            found = table[AXIS].to_numpy()
            bad = (found < 0) | (found >= scores.shape[1])
            if bad.any():
                raise InputError(f"{where}: axis {found[np.argmax(bad)]}: expected 0 to {scores.shape[1] - 1}")
            require_once(place[place > 0], axis >= 0, items, where)
            axis[place[place > 0]] = found[place > 0]
    unknown = axis[1:] < 0
    return Matrix(np.where(unknown, np.float32(0), scores[:, np.maximum(axis[1:], 0)]), unknown_users, unknown)


def write(folder: Path, users: pa.Array, items: pa.Array, scores: NDArray[np.float32]) -> Path:
    """Write scores [U, I] of raw ids, all or nothing; returns the folder."""
    with replacing(folder) as partial:
        for name in (USERS, ITEMS):
            (partial / name).mkdir(parents=True)
        column = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1])
        pq.write_table(pa.table({"id": users, "vector": column}), partial / USERS / "part-00000.parquet")
        places = pa.array(np.arange(len(items), dtype=np.int32))
        pq.write_table(pa.table({"id": items, AXIS: places}), partial / ITEMS / "part-00000.parquet")
    return folder
