"""Scores of all pairs: read as written, judged as the vectors whose products they are, refused where damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from recsys.evaluate import matrix, ranking
from tests.evaluate import likes

USERS, ITEMS = pa.array(["a", "b"]), pa.array([1, 2, 3], pa.int64())
SCORES = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)


def test_scores_come_in_the_order_asked_and_what_is_unknown_scores_zero(tmp_path: Path) -> None:
    folder = matrix.write(tmp_path / "scores", USERS, ITEMS, SCORES)
    assert matrix.is_matrix(folder)
    found = matrix.read(folder, pa.array(["b", "nobody", "a"]), pa.array([3, 7, 1], pa.int64()))
    assert found.scores.tolist() == [[6, 0, 4], [0, 0, 0], [3, 0, 1]]
    assert found.unknown_users.tolist() == [False, True, False]
    assert found.unknown_items.tolist() == [False, True, False]


def test_scores_are_judged_as_the_vectors_they_are_made_of(tmp_path: Path) -> None:
    likes.write(tmp_path / "data", likes.random_rows(), likes.COLD)
    users, items = likes.drawn(0)
    product = np.stack([users[each] for each in likes.USERS]) @ np.stack(list(items.values())).T
    folders = {
        "vectors": likes.vectors(tmp_path / "vectors", users, items),
        "scores": matrix.write(tmp_path / "scores", pa.array(likes.USERS), pa.array(list(items)), product),
    }
    assert not matrix.is_matrix(folders["vectors"])
    found = ranking.evaluate(likes.config(tmp_path / "data", tmp_path), folders)["systems"]
    assert found["scores"] == found["vectors"] and found["vectors"]["all"]["recall@3"][0] > 0


def test_draws_are_averaged(tmp_path: Path) -> None:
    likes.write(tmp_path / "data", likes.random_rows(), likes.COLD)
    folders = {name: likes.vectors(tmp_path / name, *likes.drawn(seed)) for seed, name in enumerate(("base", "other"))}

    def judged(seed: int, draws: int) -> dict[str, Any]:
        return ranking.evaluate(likes.config(tmp_path / "data", tmp_path, seed=seed, draws=draws), folders)

    one, two, both = judged(3, 1), judged(4, 1), judged(3, 2)
    for key in ("systems", "differences"):
        for name, by_segment in both[key].items():
            values = [each[key][name]["warm"]["hitrate@1/4"][0] for each in (one, two)]
            assert values[0] != values[1]
            assert by_segment["warm"]["hitrate@1/4"][0] == pytest.approx(np.mean(values))
    assert "seeds 3 to 4" in both["protocol"]["sampled"] and both["seeds"] == one["seeds"]


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ([0, 1, 3], "axis 3: expected 0 to 2"),
        ([0, -1, 2], "axis -1: expected 0 to 2"),
        ([0.0, 1.0, 2.0], "column 'axis': expected integers without null, found double"),
        ([0, None, 2], "column 'axis': expected integers without null"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path: Path, axis: list[Any], message: str) -> None:
    folder = matrix.write(tmp_path / "scores", USERS, ITEMS, SCORES)
    pq.write_table(pa.table({"id": ITEMS, "axis": axis}), folder / "item_id" / "part-00000.parquet")
    with pytest.raises(InputError, match=message):
        matrix.read(folder, USERS, ITEMS)


def test_an_item_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = matrix.write(tmp_path / "scores", USERS, ITEMS, SCORES)
    pq.write_table(
        pa.table({"id": ITEMS.take([0, 1, 0]), "axis": [0, 1, 2]}), folder / "item_id" / "part-00000.parquet"
    )
    with pytest.raises(InputError, match="id 1 has a vector more than once"):
        matrix.read(folder, USERS, ITEMS)
