"""Shares of sources by rows of feedback, by hand."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from recsys.config_lifecycle import Lifecycle, Stage
from recsys.lifecycle.blend import weights

STAGES = [Stage(rows=0, source="start"), Stage(rows=4, source="read"), Stage(rows=19, source="tuned")]


def test_a_stage_is_alone_at_its_rows_and_shares_in_between() -> None:
    found = weights(STAGES, np.array([0, 1, 4, 9, 19, 500]))
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(found[[0, 2, 4, 5]], np.eye(3)[[0, 1, 2, 2]])
    second = math.log(2) / math.log(5)
    np.testing.assert_allclose(found[1], [1 - second, second, 0])
    third = (math.log(10) - math.log(5)) / (math.log(20) - math.log(5))
    np.testing.assert_allclose(found[3], [0, 1 - third, third])


def test_no_step_is_taken_at_once() -> None:
    found = weights(STAGES, np.arange(200))
    assert np.abs(np.diff(found, axis=0)).max() < 0.5


def test_one_stage_is_always_alone() -> None:
    assert weights(STAGES[:1], np.array([0, 7])).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("rows", "told"), [([3, 5], "from 0 rows up, found"), ([0, 4, 4], "found"), ([0, 5, 2], "found")]
)
def test_stages_go_up_from_none(rows: list[int], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Lifecycle(stages=[Stage(rows=number, source="read") for number in rows])
    with pytest.raises(ValidationError, match="expected ascending numbers of impressions"):
        Lifecycle(replay=[4, 2])
