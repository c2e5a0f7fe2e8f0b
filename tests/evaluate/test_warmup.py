"""Impressions to a level, by hand."""

import math

import numpy as np
import pytest

from recsys.evaluate.warmup import impressions, told

SEEN = np.array([0, 1, 3, 7])


def test_between_two_points_it_is_linear_in_the_logarithm() -> None:
    curve = np.array([0.6, 0.64, 0.7, 0.72])
    assert impressions(SEEN, curve, 0.5) == 0
    assert impressions(SEEN, curve, 0.64) == pytest.approx(1)
    assert impressions(SEEN, curve, 0.67) == pytest.approx(math.sqrt(2 * 4) - 1)
    assert impressions(SEEN, curve, 0.721) == math.inf


def test_a_curve_that_falls_again_has_reached_its_level_the_first_time() -> None:
    assert impressions(SEEN, np.array([0.6, 0.7, 0.65, 0.71]), 0.7) == pytest.approx(1)


def test_how_it_is_told() -> None:
    assert told(6.6) == "7" and told(math.inf) == "more than these"
