"""The bench's own dataset: made from a seed, in the shape of MovieLens-1M, so that the bench needs no download.

6,040 users with a lognormal number of ratings each, about 1,000,000 in all, on 3,883 items of long-tailed popularity;
string ids; each user's ratings in one burst of time, as MovieLens' are. After `tools.prepare`'s own steps a training
row has 33 history items in the mean, 50 at most.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Data
from recsys.data.prepare import prepare
from recsys.errors import InputError
from recsys.files import replacing

USERS, ITEMS = 6040, 3883
MEDIAN_ROWS, SPREAD, FEWEST = 96, 1.0, 20
"""Ratings of a user: lognormal, never fewer than FEWEST."""
_YEAR = 365 * 86400


def make(data: Data, seed: int = 0, users: int = USERS) -> None:
    """Write the raw log of so many users where the config says it is, unless it is there, and prepare the dataset.

    Raises:
        InputError: the config's source is not `files` with interactions, users and items.
    """
    source = data.source
    if not (source.interactions and source.users and source.items):
        raise InputError("data.source: the bench expects kind: files with interactions, users and items")
    tables = zip(
        (source.users, source.items, source.interactions), _log(np.random.default_rng(seed), users), strict=True
    )
    for file, table in tables:
        if not Path(file.path).exists():
            with replacing(Path(file.path)) as partial:
                pq.write_table(table, partial)
    prepare(data)


def _log(order: np.random.Generator, count: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    users = np.char.add("user ", np.arange(count).astype(str)).astype(object)
    items = np.char.add("item ", np.arange(ITEMS).astype(str)).astype(object)
    rows = np.clip(np.exp(order.normal(np.log(MEDIAN_ROWS), SPREAD, count)), FEWEST, ITEMS).astype(int)
    user = np.repeat(np.arange(count), rows)
    popularity = 1.0 / (np.arange(ITEMS) + 50.0)
    start = np.repeat(order.integers(0, _YEAR, count), rows)
    interactions = {
        "user_id": pa.array(users[user]),
        "item_id": pa.array(items[order.choice(ITEMS, len(user), p=popularity / popularity.sum())]),
        "timestamp": start + order.integers(0, 3600, len(user)),
        "value": order.integers(1, 6, len(user)).astype(np.float32),
    }
    genres = [[f"genre {k}" for k in order.choice(18, n, replace=False)] for n in order.integers(1, 4, ITEMS)]

    def words(name: str, kinds: int, n: int) -> pa.Array:
        return pa.array(np.char.add(f"{name} ", order.integers(0, kinds, n).astype(str)).tolist())

    return (
        pa.table(
            {
                "user_id": pa.array(users),
                "gender": words("gender", 2, count),
                "age": words("age", 7, count),
                "occupation": words("occupation", 21, count),
                "zip3": words("zip", 600, count),
            }
        ),
        pa.table({"item_id": pa.array(items), "genres": pa.array(genres), "year": words("year", 80, ITEMS)}),
        pa.table(interactions),
    )
