"""User and item vectors of one system, as `tools.export` writes them or as anybody else does.

    DIR/user_id/*.parquet, or DIR/user_id.parquet        id, vector
    DIR/item_id/*.parquet, or DIR/item_id.parquet        id, vector

`id` is a raw id of the dataset's type; the row whose id is null stands for every id without a row of its own, and is
zero where it is not there. `vector` is a list of D floats, D the same in both. Other columns are not read. In memory
are one row group and the vectors of the ids asked for. A system whose scores are no dot products gives them as they are
(`recsys.evaluate.matrix`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.ids import IdMap
from recsys.data.matrix import matrix
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups

USERS, ITEMS = "user_id", "item_id"


@dataclass(frozen=True)
class Vectors:
    """One system: it scores user u and item i by the dot product of their vectors."""

    users: NDArray[np.float32]
    """[U, D]"""
    items: NDArray[np.float32]
    """[I, D]"""
    unknown_users: NDArray[np.bool_]
    """[U] users without a row, who have the unknown row's vector, or zeros."""
    unknown_items: NDArray[np.bool_]
    """[I] items without a row."""


def read_vectors(folder: Path, users: pa.Array, items: pa.Array) -> Vectors:
    """The vectors of the raw ids `users` [U] and `items` [I], each once in there.

    Raises:
        InputError: a missing file or column; an id of another type than the dataset's, or there twice (only ids asked
            for are looked at); a vector that is null, not finite or of another width; no rows; or vectors so long that
            a dot product would overflow float32.
    """
    if (folder.parent / "deltas").exists():
        raise InputError(
            f"{folder}: rows of this export have changed since, by {folder.parent / 'deltas'}: export anew"
        )
    user_vectors, unknown_users = vectors_of(folder, USERS, users)
    item_vectors, unknown_items = vectors_of(folder, ITEMS, items)
    if user_vectors.shape[1] != item_vectors.shape[1]:
        raise InputError(
            f"{folder}: expected vectors of one width; those in {USERS} have {user_vectors.shape[1]} values, "
            f"those in {ITEMS} {item_vectors.shape[1]}"
        )
    longest = [np.linalg.norm(side.astype(np.float64), axis=1).max(initial=0) for side in (user_vectors, item_vectors)]
    if longest[0] * longest[1] > np.finfo(np.float32).max:
        raise InputError(
            f"{folder}: vectors as long as {longest[0]:.3g} and {longest[1]:.3g} overflow in a dot product"
        )
    return Vectors(user_vectors, item_vectors, unknown_users, unknown_items)


def vectors_of(folder: Path, name: str, ids: pa.Array) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors [n, D] of `ids` and which of them [n] have no row; name: USERS or ITEMS.

    Raises:
        InputError: as `read_vectors`.
    """
    index = IdMap(f"{folder / name}: column 'id'", ids, np.zeros(len(ids), np.int64), len(ids) + 1)
    vectors, seen = np.zeros((len(ids) + 1, 0), np.float32), np.zeros(len(ids) + 1, bool)
    for file in parts_of(folder, name):
        for group, table in read_groups(file, ["id", "vector"]):
            if not table.num_rows:
                continue
            where = f"{file}: row group {group}"
            found = matrix(table["vector"], table["id"], where, np.float32, vectors.shape[1])
            if not vectors.size:
                vectors = np.zeros((len(ids) + 1, found.shape[1]), np.float32)
            rows = index.rows(table["id"])
            asked = (rows > 0) | pc.is_null(table["id"]).to_numpy()
            place = rows[asked]
            require_once(place, seen, ids, where)
            seen[place] = True
            vectors[place] = found[asked]
    if not vectors.shape[1]:
        raise InputError(f"{folder / name}: expected at least one vector, found none")
    unknown = ~seen[1:]
    vectors[1:][unknown] = vectors[0]
    return vectors[1:], unknown


def parts_of(folder: Path, name: str) -> list[Path]:
    """The files of USERS or ITEMS.

    Raises:
        InputError: none there.
    """
    whole = folder / f"{name}.parquet"
    if whole.is_file():
        return [whole]
    parts = sorted(path for path in (folder / name).glob("*.parquet") if not path.name.startswith((".", "_")))
    if not parts:
        raise InputError(f"{folder}: expected vectors in {name}/*.parquet or {name}.parquet, found neither")
    return parts


def require_once(place: NDArray[np.int64], seen: NDArray[np.bool_], ids: pa.Array, where: str) -> None:
    """Raises InputError where one of the rows `place` [m] of `ids` comes twice, or is in `seen` [n + 1]; 0 is null."""
    ordered = np.sort(place)
    again = np.concatenate((place[seen[place]], ordered[1:][ordered[1:] == ordered[:-1]]))
    if len(again):
        twice = ids[int(again[0]) - 1].as_py() if again[0] else None
        raise InputError(f"{where}: id {twice!r} has a vector more than once; expected each id once")
