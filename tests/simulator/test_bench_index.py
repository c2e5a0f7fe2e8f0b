"""The bench's row on the user index, on few users."""

import numpy as np
import pytest

from recsys.config_simulator import Retrieve
from simulator import bench_index


def test_the_index_row_tells_recall_and_what_both_indexes_cost() -> None:
    coded = Retrieve(index="ivf-pq", lists=16, bytes=32, probe=8)
    row = bench_index.compare(users=2000, items=8, coded=coded)
    assert 0.5 < row.ours == row.ratio <= 1.0 and row.unit == "recall@50"
    assert row.detail["flat"]["bytes a user"] == pytest.approx(512, rel=0.01)
    assert 40 < row.detail["ivf-pq"]["bytes a user"] < row.detail["flat"]["bytes a user"]
    assert {"ns a centre", "ns a code"} <= row.detail["ivf-pq"].keys()


def test_recall_counts_by_line() -> None:
    true, found = np.array([[1, 2], [3, 4]]), np.array([[2, 1], [1, -1]])
    assert bench_index._recall(found, true) == 0.5
    assert bench_index._recall(np.array([[9, 2], [3, 4]]), true) == 0.75
