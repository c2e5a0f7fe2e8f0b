"""A small dataset to rank on, and vectors for it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config import Config, Data, Evaluate
from recsys.data.schema import write_info
from tests.evaluate import tiny

Row = tuple[str, str, int]
"""user, item, label"""
ById = Mapping[Any, NDArray[np.float32]]
"""A vector for each raw id; None is the unknown row."""

USERS = [f"u{k:02}" for k in range(25)]
WARM = [f"i{k:02}" for k in range(0, 30, 2)]
COLD = [f"i{k:02}" for k in range(1, 30, 2)]
"""Valid's: i01, i05, ...; test's: i03, i07, ..."""


def write(path: Path, splits: dict[str, list[Row]], held_out: list[str]) -> None:
    """A dataset directory with these rows, several row groups a split."""
    for split, rows in splits.items():
        folder = path / "interactions" / f"split={split}"
        folder.mkdir(parents=True)
        user, item, label = zip(*rows, strict=True)
        time = pa.array(range(len(rows)), pa.int64())
        table = pa.table({"user_id": user, "item_id": item, "timestamp": time, "label": pa.array(label, pa.int8())})
        pq.write_table(table, folder / "part-00000.parquet", row_group_size=64)
    pq.write_table(pa.table({"item_id": pa.array(held_out, pa.string())}), path / "held_out.parquet")
    write_info(replace(tiny.INFO, split="cold-items", cut=None), path)


def random_rows(seed: int = 0) -> dict[str, list[Row]]:
    """Rows in which some pairs come twice, some positives of test are positives of train too, and some users have
    nothing to rank."""
    random = np.random.default_rng(seed)

    def some(users: list[str], items: list[str], rows: int) -> list[Row]:
        return [
            (users[random.integers(len(users))], items[random.integers(len(items))], int(random.random() < 0.6))
            for _ in range(rows)
        ]

    first = [(USERS[0], item, 0) for item in WARM]
    return {
        "train": first + some(USERS, WARM, 150),
        "valid": some(USERS, WARM + COLD[::2], 60),
        "test": some(USERS[:20], WARM + COLD[1::2], 160),
    }


def config(path: Path, run: Path, **evaluate: object) -> Config:
    """A config for it, with thresholds that it can meet."""
    options = {"replicates": 10, "min_rows": 5, "min_users": 2, "negatives": 4, "sampled_k": [1, 2], "top_k": [1, 3, 8]}
    return Config(run=str(run), data=Data(path=str(path)), evaluate=Evaluate(**(options | evaluate)))  # type: ignore[arg-type]


def vectors(folder: Path, users: ById, items: ById) -> Path:
    """The folder with both sets, items in two parts."""
    _write(folder / "user_id.parquet", users)
    half = len(items) // 2
    for part, ids in enumerate((list(items)[:half], list(items)[half:])):
        _write(folder / "item_id" / f"part-{part:05d}.parquet", {key: items[key] for key in ids})
    return folder


def drawn(seed: int, dim: int = 3, levels: int = 3) -> tuple[ById, ...]:
    """Vectors of small integers for all users and items: their products are exact, and tie often."""
    random = np.random.default_rng(seed)
    return tuple(
        {key: random.integers(0, levels, dim).astype(np.float32) for key in keys}
        for keys in (USERS, sorted(WARM + COLD))
    )


def _write(path: Path, rows: ById) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.stack(list(rows.values()))
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    pq.write_table(pa.table({"id": pa.array(list(rows), pa.string()), "vector": column}), path, row_group_size=4)
