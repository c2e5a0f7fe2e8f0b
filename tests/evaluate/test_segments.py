from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.evaluate import scores, segments
from tests.evaluate import tiny


def parts(path: Path, rule: str, exposure: int = 0) -> dict[str, set[str]]:
    """Item ids of each segment."""
    tiny.dataset(path, rule)
    rows = scores.read_rows(path, "test")
    scored = segments.scored_items(path, rows.items) if rule == "exposure" else None
    masks = segments.segments(rows, segments.training_counts(path, rows.items), scored, exposure)
    ids = np.array(rows.items.to_pylist())
    return {name: set(ids[rows.item[mask]].tolist()) for name, mask in masks.items()}


def items(first: int, last: int) -> set[str]:
    return {f"i{item:02}" for item in range(first, last + 1)}


def test_training_counts_are_those_of_split_train(tmp_path: Path) -> None:
    tiny.dataset(tmp_path)
    asked = pa.array(["i22", "i05", "i00", "never seen"])
    np.testing.assert_array_equal(segments.training_counts(tmp_path, asked), [0, 5, 150, 0])


def test_natural_buckets_by_training_rows(tmp_path: Path) -> None:
    assert parts(tmp_path, "temporal") == {
        "all": items(0, 23),
        "warm": items(0, 19),
        "cold": items(20, 23),
        "0": items(20, 23),
        "1-4": items(1, 4),
        "5-19": items(5, 19),
        "20-99": set(),
        "100+": {"i00"},
    }


def test_exposure_reports_scored_new_items_and_buckets_of_warm_ones(tmp_path: Path) -> None:
    found = parts(tmp_path, "exposure")
    assert found["n=0"] == items(20, 22)
    assert found["cold"] == items(20, 23)
    assert list(found) == ["all", "warm", "cold", "n=0", "1-4", "5-19", "20-99", "100+"]


def test_with_feedback_consumed_only_that_exposure_is_reported(tmp_path: Path) -> None:
    assert parts(tmp_path, "exposure", 8) == {"n=8": items(20, 22), "n=8/warm": items(0, 19)}


def test_exposure_needs_the_exposure_rule(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exposure=8: expected a dataset of the rule 'exposure'"):
        parts(tmp_path, "temporal", 8)
    with pytest.raises(InputError, match="exposure=-1: expected a number of kept rows"):
        parts(tmp_path / "again", "exposure", -1)
