"""Who lends its list: equation 5 by hand, and against a plain loop."""

import numpy as np
import pytest

from recsys.data import similar
from recsys.errors import InputError


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    dot = float(a @ b)
    return dot / (float(a @ a) + float(b @ b) - dot)


def test_tanimoto_by_hand() -> None:
    a = np.array([[1, 2], [0, 0]], np.float32)
    b = np.array([[1, 2], [2, 1], [-1, 0], [0, 0]], np.float32)
    # 5 / 5, 4 / (5 + 5 - 4), -1 / (5 + 1 + 1), 0 / 5
    expected = np.array([[1, 4 / 6, -1 / 7, 0], [0, 0, 0, 0]])
    assert np.allclose(similar.tanimoto(a, b), expected, rtol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_the_lender_is_the_most_similar_popular_item(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "BLOCK", block)
    draw = np.random.default_rng(0)
    vectors, positives = draw.normal(size=(40, 5)).astype(np.float32), draw.integers(0, 30, 40)
    lender = similar.lenders(vectors, positives, 20)
    popular = np.flatnonzero(positives >= 20)
    for item in range(40):
        if positives[item] >= 20:
            assert lender[item] == item
        else:
            likeness = [by_hand(vectors[item], vectors[other]) for other in popular]
            assert lender[item] == popular[int(np.argmax(likeness))]


def test_a_large_inner_product_is_not_a_likeness() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [50, 0]], np.float32)
    assert similar.lenders(vectors, np.array([0, 9, 9]), 9).tolist() == [1, 1, 2]


def test_bad_vectors_and_no_popular_item_are_refused() -> None:
    vectors = np.ones((3, 2), np.float32)
    with pytest.raises(InputError, match=r"prompt.popular=9: no item has as many .* the most is 8"):
        similar.lenders(vectors, np.array([0, 8, 1]), 9)
    vectors[1, 0] = np.nan
    with pytest.raises(InputError, match="row 1: expected 2 finite values"):
        similar.lenders(vectors, np.array([0, 9, 1]), 9)
