"""The floor against a calculation by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from recsys.rivals import means


def _split(root: Path, split: str, rows: list[tuple[str, str, int]], **more: list[int]) -> None:
    folder = root / "interactions" / f"split={split}"
    folder.mkdir(parents=True)
    users, items, labels = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"user_id": users, "item_id": items, "label": pa.array(labels, pa.int8()), **more})
    half = len(rows) // 2
    pq.write_table(table[:half], folder / "part-00000.parquet", row_group_size=1)
    pq.write_table(table[half:], folder / "part-00001.parquet", row_group_size=2)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    _split(tmp_path, "train", [("a", "x", 1), ("a", "y", 1), ("b", "x", 0), ("b", "y", 1), ("c", "x", 0)])
    _split(tmp_path, "test", [("a", "x", 0), ("z", "y", 0), ("a", "new", 1), ("z", "new", 1)])
    _split(tmp_path, "feedback", [("a", "new", 1), ("b", "new", 1), ("c", "new", 0)], rank=[1, 2, 3])
    return tmp_path


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def _scores(dataset: Path, exposure: int = 0, user: float = 2.0, item: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    fitted = means.fit(dataset, exposure)
    parts = list(means.scores(fitted, dataset, "test", user, item))
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([scores for _, scores in parts])


def test_by_hand(dataset: Path) -> None:
    """Three of five training rows are positive; a has 2 of 2, x has 1 of 3, y has 2 of 2."""
    ids, scores = _scores(dataset)
    rate = 0.6
    user_a = _logit((2 + 2 * rate) / (2 + 2))
    item_x, item_y = _logit((1 + 4 * rate) / (3 + 4)), _logit((2 + 4 * rate) / (2 + 4))
    none = _logit(rate)
    expected = [user_a + item_x - none, none + item_y - none, user_a + none - none, none]
    assert ids.tolist() == [0, 1, 2, 3]
    assert np.allclose([_logit(score) for score in scores], expected)
    assert scores[3] == pytest.approx(rate)


def test_feedback_counts_for_the_new_item_alone(dataset: Path) -> None:
    none, two = _scores(dataset, 0)[1], _scores(dataset, 2)[1]
    assert np.array_equal(none[:2], two[:2])
    assert _logit(two[3]) == pytest.approx(_logit((2 + 4 * 0.6) / (2 + 4)))


def test_without_smoothing_nothing_is_infinite(dataset: Path) -> None:
    assert np.isfinite(_scores(dataset, user=0.0, item=0.0)[1]).all()


def test_one_class_is_refused(tmp_path: Path) -> None:
    _split(tmp_path, "train", [("a", "x", 1), ("a", "y", 1)])
    with pytest.raises(InputError, match="both labels"):
        means.fit(tmp_path)
