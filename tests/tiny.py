"""A tiny dataset directory to the contract, with every kind of column: what the tests train and read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.data.schema import Info, write_info
from recsys.settings import parse

USERS, ITEMS, NEW = 40, 30, 4
"""Items u >= ITEMS - NEW have no training row."""


def config(path: Path, run: Path, **changes: object) -> Config:
    """A small ranker over the tiny dataset; `changes` are top-level keys of the config tree."""
    tree = {
        "run": str(run),
        "data": {"path": str(path), "history": 6},
        "features": [
            {"name": "user_id", "of": "user"},
            {"name": "gender", "of": "user"},
            {"name": "age", "of": "user", "kind": "dense"},
            {"name": "genres", "of": "item", "kind": "multi"},
            {"name": "year", "of": "item", "kind": "dense"},
            {"name": "device", "of": "context"},
        ],
        "model": {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4},
        "train": {"batch_size": 16, "shuffle_rows": 64, "epochs": 1, "hide_ids": 0.0},
        "evaluate": {"batch_size": 16, "min_rows": 1, "min_users": 1, "replicates": 20},
    }
    return parse({**tree, **changes})


def write(path: Path, rows: dict[str, int] | None = None, seed: int = 0) -> Path:
    """Write the dataset directory; returns its path."""
    rows = rows or {"train": 203, "valid": 41, "test": 61}
    order = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    users = np.array([f"u{k:02d}" for k in range(USERS)], dtype=object)
    items = np.array([f"item {k:02d}" for k in range(ITEMS)], dtype=object)
    pq.write_table(
        pa.table(
            {
                "user_id": list(users),
                "gender": [None if k % 7 == 0 else "MF"[k % 2] for k in range(USERS)],
                "age": [None if k % 9 == 0 else float(k) for k in range(USERS)],
            }
        ),
        path / "users.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "item_id": list(items),
                "title": list(items),
                "genres": [[f"g{j}" for j in range(k % 4)] for k in range(ITEMS)],
                "year": [1980.0 + k for k in range(ITEMS)],
            }
        ),
        path / "items.parquet",
    )
    held_out = {"item_id": list(items[-NEW:]), "group": ["new"] * NEW, "scored": [True] * NEW}
    pq.write_table(pa.table(held_out), path / "held_out.parquet")
    for split, n in rows.items():
        folder = path / "interactions" / f"split={split}"
        folder.mkdir(parents=True, exist_ok=True)
        table = _interactions(order, users, items if split == "test" else items[:-NEW], n)
        half = n // 2
        pq.write_table(table[:half], folder / "part-00000.parquet", row_group_size=10)
        pq.write_table(table[half:], folder / "part-00001.parquet", row_group_size=17)
    write_info(
        Info(
            schema_version=1,
            name="tiny",
            source="synthetic",
            licence="none",
            label="synthetic",
            split="exposure",
            cut="user",
            seed=seed,
            history=6,
            history_labels=True,
            counts=rows,
            time_range={split: [0, 1000] for split in rows},
            users=USERS,
            items=ITEMS,
            exposures=[0],
            context=["device"],
        ),
        path,
    )
    return path


def _interactions(order: np.random.Generator, users: np.ndarray, items: np.ndarray, n: int) -> pa.Table:
    lengths = order.integers(0, 7, n)
    known = items[: ITEMS - NEW]
    return pa.table(
        {
            "user_id": pa.array(list(users[order.integers(0, len(users), n)]), pa.string()),
            "item_id": pa.array(list(items[order.integers(0, len(items), n)]), pa.string()),
            "timestamp": pa.array(np.sort(order.integers(0, 1000, n)), pa.int64()),
            "label": pa.array(order.integers(0, 2, n), pa.int8()),
            "value": pa.array(order.random(n), pa.float32()),
            "history": pa.array(
                [list(known[order.integers(0, len(known), k)]) for k in lengths], pa.list_(pa.string())
            ),
            "history_label": pa.array([list(order.integers(0, 2, k)) for k in lengths], pa.list_(pa.int8())),
            "device": pa.array([["phone", "web", None][k] for k in order.integers(0, 3, n)], pa.string()),
        }
    )
