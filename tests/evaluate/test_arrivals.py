"""What had been seen of an item before a row, against a loop over all pairs of rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from recsys.evaluate import arrivals


def written(path: Path, items: list[str], times: list[int]) -> Path:
    folder = path / "interactions" / "split=test"
    folder.mkdir(parents=True)
    table = pa.table({"item_id": items, "timestamp": times})
    half = len(items) // 2
    for number, part in enumerate((table[:half], table[half:])):
        pq.write_table(part, folder / f"part-{number}.parquet", row_group_size=7)
    return path


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    items, times = random.integers(0, 6, 90), random.integers(0, 12, 90)
    return written(tmp_path, [f"i{k}" for k in items], times.tolist()), items, times


def test_seen_counts_strictly_earlier_seconds(log: tuple[Path, np.ndarray, np.ndarray]) -> None:
    dataset, items, times = log
    found = arrivals.read(dataset, pa.array(["i4", "i1"]))
    rows = np.flatnonzero(np.isin(items, [4, 1]))
    assert found.row_id.tolist() == rows.tolist()
    assert found.item.tolist() == [{4: 0, 1: 1}[items[row]] for row in rows]
    for row, rank, seen in zip(rows, found.rank, found.seen, strict=True):
        mine = [other for other in rows if items[other] == items[row]]
        assert seen == sum(times[other] < times[row] for other in mine)
        assert seen < rank <= sum(times[other] <= times[row] for other in mine)
    for item in (4, 1):
        mine = found.item == {4: 0, 1: 1}[item]
        assert sorted(found.rank[mine]) == list(range(1, mine.sum() + 1))


def test_none_to_replay_is_said(log: tuple[Path, np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError, match="split 'test' has no row of a new item to replay"):
        arrivals.read(log[0], pa.array(["i77"]))
