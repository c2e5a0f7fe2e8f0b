"""A tiny dataset directory on disk, and predictions for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config import Config, Data, Evaluate
from recsys.data.schema import Info, write_info

ROWS, USERS, ITEMS = 1200, 30, 24
NEW = ("i20", "i21", "i22", "i23")
"""Items without training rows; the last one is not scored."""

INFO = Info(
    schema_version=1,
    name="tiny",
    source="made up",
    licence="none",
    label="liked",
    split="exposure",
    cut="user",
    seed=3,
    history=5,
    history_labels=False,
    counts={},
    time_range={},
    users=USERS,
    items=ITEMS,
)


def dataset(path: Path, rule: str = "exposure") -> dict[str, NDArray[Any]]:
    """Write the directory; returns the test rows as columns user_id, item_id, label, in row id order."""
    random = np.random.default_rng(0)
    users = random.integers(0, USERS, ROWS)
    items = np.array([f"i{item:02}" for item in random.integers(0, ITEMS, ROWS)])
    labels = (random.random(ROWS) < 0.4 + 0.2 * (users % 2)).astype(np.int8)
    test = {"user_id": users, "item_id": items, "label": labels}
    half = ROWS // 2 + 100
    _write(path, "test", "part-00000", {name: column[:half] for name, column in test.items()})
    _write(path, "test", "part-00001", {name: column[half:] for name, column in test.items()})
    # Item i01 has 1 training row, i02 2, ... i19 19; i00 has 150.
    seen = np.repeat([f"i{item:02}" for item in range(20)], [150, *range(1, 20)])
    rest = len(seen)
    _write(path, "train", "part-00000", {"user_id": np.arange(rest), "item_id": seen, "label": np.ones(rest, np.int8)})
    held = pa.table({"item_id": NEW, "group": ["new"] * 4, "scored": [True, True, True, False]})
    pq.write_table(held if rule == "exposure" else held.slice(0, 0), path / "held_out.parquet")
    write_info(replace(INFO, split=rule, cut="user" if rule == "exposure" else None), path)
    return test


def config(path: Path, run: Path, replicates: int = 20, min_rows: int = 100, min_users: int = 10) -> Config:
    """A config for it, with thresholds that a tiny dataset can meet."""
    evaluate = Evaluate(replicates=replicates, min_rows=min_rows, min_users=min_users)
    return Config(run=str(run), data=Data(path=str(path)), evaluate=evaluate)


def predictions(path: Path, score: NDArray[Any], ids: NDArray[Any] | None = None, row_group: int = 100) -> Path:
    """A predictions file with the scores of the row ids (default: 0, 1, ...)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.arange(len(score), dtype=np.int64) if ids is None else ids
    pq.write_table(pa.table({"row_id": ids, "score": score}), path, row_group_size=row_group)
    return path


def _write(path: Path, split: str, part: str, columns: dict[str, NDArray[Any]]) -> None:
    folder = path / "interactions" / f"split={split}"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{part}.parquet", row_group_size=256)
