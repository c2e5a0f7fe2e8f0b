from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.jagged import Jagged
from recsys.errors import InputError
from recsys.evaluate.positives import Task, read_task
from recsys.evaluate.segments import scored_items
from recsys.floor.kept import new_items
from tests.evaluate import likes


def pairs(task: Task, lists: Jagged) -> set[tuple[str, str]]:
    users, items = task.users.to_pylist(), task.items.to_pylist()
    user = [name for name, length in zip(users, lists.lengths, strict=True) for _ in range(length)]
    found = list(zip(user, (items[code] for code in lists.values), strict=True))
    assert len(found) == len(set(found)) and lists.values.dtype == "int32"
    return set(found)


def test_the_task_is_what_a_loop_over_rows_finds(tmp_path: Path) -> None:
    splits = likes.random_rows()
    likes.write(tmp_path, splits, held_out=[*likes.COLD, "never rated"])
    task = read_task(tmp_path, "test", seed=0)
    liked = {name: {(user, item) for user, item, label in rows if label} for name, rows in splits.items()}
    judged = {user for user, _ in liked["test"]}
    warm = {item for _, item, _ in splits["train"]}

    assert task.users.to_pylist() == sorted(judged)
    items = task.items.to_pylist()
    assert set(items[: task.warm]) == warm and len(items) == len(set(items))
    assert set(items[task.warm :]) == {*likes.COLD, "never rated"} | {item for _, item, _ in splits["test"]} - warm
    assert pairs(task, task.positives) == liked["test"] - liked["train"]
    assert task.repeated == len(liked["test"] & liked["train"]) > 0
    assert pairs(task, task.masked) == {pair for pair in liked["train"] if pair[0] in judged}
    assert pairs(task, task.liked) == {pair for pair in set.union(*liked.values()) if pair[0] in judged}
    for start, stop in zip(task.positives.offsets, task.positives.offsets[1:], strict=False):
        assert (task.positives.values[start:stop][1:] > task.positives.values[start:stop][:-1]).all()


def test_nothing_to_rank_is_said(tmp_path: Path) -> None:
    likes.write(tmp_path, {"train": [("a", "x", 1)], "valid": [("a", "x", 0)], "test": [("a", "x", 1)]}, [])
    for split in ("train", "valid", "test"):
        with pytest.raises(InputError, match=f"split '{split}' has no positive rows but those also in train"):
            read_task(tmp_path, split, seed=0)
    with pytest.raises(InputError, match="split 'tset': expected one of train, valid, test"):
        read_task(tmp_path, "tset", seed=0)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5], r"held_out\.parquet: row group 0: column 'item_id': expected string .* found int64"),
        (["a", None], r"held_out\.parquet: row group 0: column 'item_id': expected no nulls, found 1"),
        (None, r"held_out\.parquet: cannot be read"),
    ],
)
def test_a_bad_list_of_held_out_items_is_named(tmp_path: Path, ids: list[Any] | None, message: str) -> None:
    likes.write(tmp_path, {"train": [("a", "x", 1)], "test": [("a", "y", 1)]}, [])
    (tmp_path / "held_out.parquet").unlink()
    if ids is not None:
        held = pa.table({"item_id": ids, "scored": [True] * len(ids)})
        pq.write_table(held, tmp_path / "held_out.parquet")
    with pytest.raises(InputError, match=message):
        read_task(tmp_path, "test", seed=0)
    with pytest.raises(InputError, match=message):
        scored_items(tmp_path, pa.array(["x", "y"]))
    with pytest.raises(InputError, match=message):
        new_items(tmp_path)


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    likes.write(tmp_path, {"train": [("a", "x", 1)], "test": [("a", "y", 2)]}, [])
    with pytest.raises(InputError, match=r"split=test.*row group 0: column 'label': expected 0 or 1, found \[2\]"):
        read_task(tmp_path, "test", seed=0)
