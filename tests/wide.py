"""The tiny dataset with every kind of column there is, and a slow reader of it: one row at a time, in plain Python.

Nothing here comes from the code under test but the config's feature list.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from tests import tiny

FEATURES: list[dict[str, Any]] = [
    {"name": "user_id", "of": "user"},
    {"name": "gender", "of": "user"},
    {"name": "age", "of": "user", "kind": "dense"},
    {"name": "genres", "of": "item", "kind": "multi"},
    {"name": "year", "of": "item", "kind": "dense"},
    {"name": "device", "of": "context"},
    {"name": "tags", "of": "context", "kind": "multi"},
    {"name": "price", "of": "context", "kind": "dense", "log": True},
]

Row = dict[str, Any]


def config(path: Path, run: Path, **changes: object) -> Config:
    """The tiny ranker over all the features."""
    return tiny.config(path, run, **{"features": FEATURES, **changes})


def write(path: Path, rows: dict[str, int] | None = None, integers: bool = False, seed: int = 0) -> Path:
    """Write the dataset; `integers` makes every id an int64. Rows of test name users and items nobody has seen."""
    tiny.write(path, rows, seed)
    for name in ("users", "items", "held_out"):
        _replace(path / f"{name}.parquet", integers, lambda table: table)
    for file in sorted((path / "interactions").rglob("*.parquet")):
        strangers = "split=test" in str(file)
        _replace(file, integers, lambda table, strangers=strangers: _widen(table, strangers))
    return path


def _widen(table: pa.Table, strangers: bool) -> pa.Table:
    order = np.random.default_rng(table.num_rows)
    n = table.num_rows
    tags: list[list[str | None] | None] = [
        None if k == 4 else [["a", "b", "c", None][j] for j in order.integers(0, 4, k)] for k in order.integers(0, 5, n)
    ]
    price = [None if k > 0.8 else float(1000 * k - 300) for k in order.random(n)]
    table = table.append_column("tags", pa.array(tags, pa.list_(pa.string())))
    table = table.append_column("price", pa.array(price, pa.float64()))
    if strangers:
        for name in ("user_id", "item_id"):
            values = table[name].to_pylist()
            values[::5] = [f"{name} 9{k:03d}" for k in range(len(values[::5]))]
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return table


def _replace(path: Path, integers: bool, change: Any) -> None:
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
        table = change(file.read())
    if integers:
        for name in {"user_id", "item_id", "history"} & set(table.column_names):
            listed = name == "history"
            numbers = pa.array(
                [[number(x) for x in v] if listed else number(v) for v in table[name].to_pylist()],
                pa.list_(pa.int64()) if listed else pa.int64(),
            )
            table = table.set_column(table.column_names.index(name), name, numbers)
    with pq.ParquetWriter(path, table.schema) as writer:
        start = 0
        for size in sizes:
            writer.write_table(table.slice(start, size), row_group_size=size)
            start += size


def number(text: str) -> int:
    """An id's integer twin; its order is not that of the text."""
    return 7_000_000_000 - int("".join(c for c in text if c.isdigit())) * 13


@dataclass
class Slow:
    """Maps and scalers fitted, and rows encoded, the slow and obvious way."""

    config: Config

    def __post_init__(self) -> None:
        root = Path(self.config.data.path)
        self.users = {row["user_id"]: row for row in pq.read_table(root / "users.parquet").to_pylist()}
        self.items = {row["item_id"]: row for row in pq.read_table(root / "items.parquet").to_pylist()}
        train = self.rows("train")
        self.counts: dict[str, Counter[Any]] = {"item_id": Counter(row["item_id"] for row in train)}
        self.scales: dict[str, tuple[float, float]] = {}
        for feature in self.config.features:
            if feature.kind == "dense":
                seen = [x for row in train if (x := self._number(row, feature)) is not None]
                mean = math.fsum(seen) / len(seen)
                self.scales[feature.name] = mean, math.sqrt(math.fsum((x - mean) ** 2 for x in seen) / len(seen))
            else:
                self.counts[feature.name] = Counter(
                    x for row in train for x in self._values(row, feature) if x is not None
                )
        self.maps = {name: {x: k + 1 for k, x in enumerate(sorted(seen))} for name, seen in self.counts.items()}

    def rows(self, split: str) -> list[Row]:
        """The rows of a split in the order of their ids."""
        files = sorted((Path(self.config.data.path) / "interactions" / f"split={split}").glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]

    def encoded(self, split: str) -> dict[int, Row]:
        """{row id: table rows of each key as a list, dense values, history labels, label}."""
        return {k: self._encode(row) for k, row in enumerate(self.rows(split))}

    def _encode(self, row: Row) -> Row:
        made: Row = {"label": float(row["label"]), "history_label": row["history_label"], "dense": []}
        made["item_id"] = [self.maps["item_id"].get(row["item_id"], 0)]
        made["history"] = [self.maps["item_id"].get(x, 0) for x in row["history"]]
        for feature in self._ordered():
            if feature.kind == "dense":
                x, (mean, std) = self._number(row, feature), self.scales[feature.name]
                known = self._entity(row, feature) is not None
                made["dense"].append((x - mean) / std if known and x is not None else 0.0)
            else:
                made[feature.name] = [self.maps[feature.name].get(x, 0) for x in self._values(row, feature)]
        return made

    def _ordered(self) -> list[Any]:
        rank = {"user": 0, "item": 1, "context": 2}
        ordered = sorted(self.config.features, key=lambda f: rank[f.of])
        return ordered

    def _entity(self, row: Row, feature: Any) -> Row | None:
        if feature.of == "context" or feature.name == "user_id":
            return row
        return self.users.get(row["user_id"]) if feature.of == "user" else self.items.get(row["item_id"])

    def _values(self, row: Row, feature: Any) -> list[Any]:
        entity = self._entity(row, feature)
        if feature.kind == "multi":
            return (entity[feature.name] or []) if entity else []
        return [entity[feature.name] if entity else None]

    def _number(self, row: Row, feature: Any) -> float | None:
        entity = self._entity(row, feature)
        x = entity[feature.name] if entity else None
        return math.copysign(math.log(1 + abs(x)), x) if feature.log and x is not None else x


def taken_apart(batch: Any) -> Iterator[Row]:
    """The rows of a batch, each as `Slow.encoded` gives it, with its row id and weight."""
    columns: dict[str, list[list[int]]] = {}
    for keyed in (batch.sparse, batch.items):
        lengths, values = keyed.lengths().tolist(), keyed.values().tolist()
        assert sum(lengths) == len(values)
        for k, key in enumerate(keyed.keys()):
            columns[key] = []
            for length in lengths[k * len(batch.label) : (k + 1) * len(batch.label)]:
                columns[key].append(values[:length])
                values = values[length:]
    labels = batch.history_label.tolist()
    for k, row_id in enumerate(batch.row_id.tolist()):
        row: Row = {key: lists[k] for key, lists in columns.items()}
        row["history_label"], labels = labels[: len(row["history"])], labels[len(row["history"]) :]
        yield row | {
            "row_id": row_id,
            "weight": batch.weight[k].item(),
            "label": batch.label[k].item(),
            "dense": batch.dense[k].tolist(),
        }
