"""A log of a few days in Parquet, a file a day, as the daily tests go through it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.settings import parse

DAY = 86400
USERS, ROWS = 30, 160


def write(path: Path, days: int = 4, seed: int = 0) -> Path:
    """Items 0 to 19 from the first day on, four more every day; a click is likelier the higher the item's number."""
    path.mkdir(parents=True, exist_ok=True)
    for day in range(days):
        order = np.random.default_rng([seed, day])
        item = order.integers(0, 20 + 4 * day, ROWS)
        row = {
            "user_id": [f"u{k}" for k in order.integers(0, USERS + day, ROWS)],
            "item_id": [f"i{k:02d}" for k in item],
            "timestamp": np.sort(order.integers(day * DAY, (day + 1) * DAY, ROWS)),
            "label": (order.random(ROWS) < 0.2 + 0.6 * (item % 7 > 3)).astype(np.int8),
            "device": [f"d{k}" for k in order.integers(0, 3 + day, ROWS)],
        }
        pq.write_table(pa.table(row), path / f"day-{day}.parquet")
    return path


def config(home: Path, run: str, log: str = "log", days: str = "days", **changes: Any) -> Config:
    """A small ranker that goes through `home`/`log`; `changes` are top-level keys of the config tree."""
    tree = {
        "run": str(home / run),
        "data": {
            "path": str(home / days),
            "source": {"kind": "files", "interactions": {"path": str(home / log)}},
            "label": {"rule": "column"},
            "split": {"rule": "daily", "valid_share": 0.2, "test_share": 0.2},
            "history": 5,
            "row_group": 32,
        },
        "features": [{"name": "user_id", "of": "user"}, {"name": "device"}],
        "model": {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4},
        "train": {"batch_size": 16, "shuffle_rows": 64, "epochs": 2, "hide_ids": 0.1, "hide_users": 0.1, "lr": 0.01},
        "evaluate": {"batch_size": 64, "min_rows": 1, "min_users": 1, "replicates": 5},
        "daily": {"base": 2},
    }
    return parse({**tree, **changes})
