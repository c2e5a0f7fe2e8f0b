"""Small logs for the data tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import settings
from recsys.config import Config, Split
from recsys.data import schema
from recsys.data.log import Log, Past, items_table
from recsys.data.splits import Assignment, Rows, assign


def rows(triples: list[tuple[int, int, int]], label: list[int] | None = None) -> Rows:
    """(user, item, second) of each row."""
    user, item, time = (np.array(column) for column in zip(*triples, strict=True))
    return Rows(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        time=time.astype(np.int64),
        label=np.array(label if label is not None else [1] * len(triples), np.int8),
        items=int(item.max()) + 1,
    )


def named(made: Assignment, code: int) -> list[int]:
    """Row numbers of a split."""
    return np.flatnonzero(made.split == code).tolist()


def with_new(item: int, made: Callable[[int], Split], on: Rows) -> Assignment:
    """The division by the first seed whose only held-out item is `item`."""
    for seed in range(200):
        found = assign(on, made(seed))
        if np.flatnonzero(found.group != "").tolist() == [item]:
            return found
    raise AssertionError("no seed draws this item")


def random_rows(count: int = 3000, users: int = 60, items: int = 40, seconds: int = 300, seed: int = 0) -> Rows:
    """Rows with many ties in time."""
    draw = np.random.default_rng(seed)
    return Rows(
        user=draw.integers(users, size=count).astype(np.int32),
        item=draw.integers(items, size=count).astype(np.int32),
        time=draw.integers(seconds, size=count).astype(np.int64),
        label=draw.integers(2, size=count).astype(np.int8),
        items=items,
    )


def random_log(on: Rows | None = None, past: Past | None = None, unique: bool = True) -> Log:
    """A log of string ids; with `unique`, no user meets an item twice."""
    on = on or random_rows()
    keep = np.arange(len(on.user))
    if unique:
        keep = np.sort(np.unique(on.user.astype(np.int64) * on.items + on.item, return_index=True)[1])
    users = int(on.user.max()) + 1
    return Log(
        name="random",
        source="random",
        licence="none",
        users=pa.table({"user_id": [f"u{k}" for k in range(users)], "age": [str(k % 5) for k in range(users)]}),
        items=items_table(
            {"item_id": pa.array([f"i{k}" for k in range(on.items)]), "title": [f"Item {k}" for k in range(on.items)]},
            {
                "price": pa.array(np.arange(on.items) / 2.0),
                "tags": pa.array([["a", f"t{k % 3}"] for k in range(on.items)]),
            },
        ),
        user=on.user[keep],
        item=on.item[keep],
        time=on.time[keep],
        value=(1 + 4 * on.label[keep]).astype(np.float32),
        label=on.label[keep],
        context=pa.table(
            {"hour": pa.array(on.time[keep] % 24), "device": pa.array(np.array(["tv", "phone"])[on.label[keep]])}
        ),
        past=past or Past.none(),
    )


def config(path: Path, **changes: Any) -> Config:
    """A config for the random log; keys with __ for dots, such as data__history=5."""
    tree: dict[str, Any] = {
        "data": {
            "path": str(path),
            "history": 8,
            "row_group": 128,
            "label": {"rule": "column"},
            "split": {"min_rows": 5, "exposures": [0, 2, 4], "valid_share": 0.2},
        },
        "features": [
            {"name": "age", "of": "user"},
            {"name": "price", "of": "item", "kind": "dense"},
            {"name": "tags", "of": "item", "kind": "multi"},
            {"name": "device", "of": "context"},
            {"name": "hour", "of": "context", "kind": "dense"},
        ],
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return settings.parse(tree)


def read(path: Path, split: str) -> pa.Table:
    """All rows of a split in the order of their row ids."""
    files = schema.split_files(path, split)
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])
