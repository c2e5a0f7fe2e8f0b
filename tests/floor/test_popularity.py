"""Popularity as vectors, against counting by hand."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from recsys.evaluate.vectors import read_vectors
from recsys.floor.popularity import popularity
from tests import tiny


def test_dot_products_are_positive_training_rows(tmp_path: Path) -> None:
    made = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    train = pq.read_table(tmp_path / "data" / "interactions" / "split=train").to_pylist()
    liked = Counter(row["item_id"] for row in train if row["label"] == 1)
    users, items = (
        pq.read_table(tmp_path / "data" / f"{of}s.parquet")[f"{of}_id"].combine_chunks() for of in ("user", "item")
    )
    vectors = read_vectors(popularity(made), users, items)
    found = vectors.users @ vectors.items.T
    assert len(set(found[0].tolist())) > 3
    for row in found.tolist():
        assert row == [liked.get(item, 0) for item in items.to_pylist()]
