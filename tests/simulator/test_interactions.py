"""Simulated interactions to labelled pairs: who is a negative under which label rule, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config_simulator import Update
from recsys.errors import InputError
from simulator import interactions
from simulator.interactions import Interactions

USERS = pa.array([f"u{k:02d}" for k in range(50)])
ROWS: dict[str, list[Any]] = {
    "user_id": ["u01", "u02", "u03", "u04", "u01", "u02", "u01", "u09", "u05"],
    "item_id": ["b", "b", "b", "b", "a", "a", "c", "c", "d"],
    "yes": [0.9, 0.2, None, 0.8, 0.7, 0.6, None, None, None],
    "qualified": [True, False, False, True, True, True, True, True, False],
}
"""Of b two Yes, a No and one not asked; of a two Yes; of c two who were not judged; of d nothing is known."""

Pairs = list[tuple[str, str, int]]


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "simulated.parquet"
    columns = {**ROWS, **changes}
    pq.write_table(pa.table({**columns, "yes": pa.array(columns["yes"], pa.float32())}), path, row_group_size=4)
    return path


def found(folder: Path, observed: bool = False, **options: Any) -> Interactions:
    return interactions.read(write(folder), USERS, Update(negatives=3, **options), observed)


def told(pairs: Interactions) -> Pairs:
    users, items = pairs.users.to_pylist(), pairs.items.to_pylist()
    return [(items[k], users[u], int(y)) for k, u, y in zip(pairs.item, pairs.user, pairs.label, strict=True)]


def drawn(pairs: Interactions) -> dict[str, set[str]]:
    """The random users of each item."""
    judged_no = {("b", "u02")}
    negatives = [(item, user) for item, user, label in told(pairs) if not label and (item, user) not in judged_no]
    each = {item: {user for i, user in negatives if i == item} for item, _ in negatives}
    assert sum(map(len, each.values())) == len(negatives), "each once for an item"
    return each


def test_who_was_judged_and_is_not_qualified_is_a_negative(tmp_path: Path) -> None:
    pairs = found(tmp_path)
    assert pairs.items.to_pylist() == ["a", "b", "c"]
    assert [pair for pair in told(pairs) if pair[0] == "b"] == [("b", "u01", 1), ("b", "u02", 0), ("b", "u04", 1)]
    assert {pair for pair in told(pairs) if pair[2]} >= {("a", "u01", 1), ("a", "u02", 1), ("c", "u01", 1)}


@pytest.mark.parametrize(
    ("observed", "balance", "counts"),
    [
        (False, True, {"a": 6, "c": 6}),  # what lacks a No
        (False, False, {"c": 6}),  # what nobody judged
        (True, True, {"a": 6, "b": 6, "c": 6}),
        (True, False, {"a": 6, "b": 6, "c": 6}),
    ],
)
def test_random_users_are_negatives_where_the_label_rule_asks(
    tmp_path: Path, observed: bool, balance: bool, counts: dict[str, int]
) -> None:
    each = drawn(found(tmp_path, observed, balance=balance))
    assert {item: len(users) for item, users in each.items()} == counts
    listed = {(item, user) for item, user in zip(ROWS["item_id"], ROWS["user_id"], strict=True)}
    assert not {(item, user) for item, users in each.items() for user in users} & listed


def test_they_are_drawn_by_the_seed(tmp_path: Path) -> None:
    first, again, other = (drawn(found(tmp_path, True, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_an_item_that_nearly_everybody_is_listed_for_gets_who_is_left(tmp_path: Path) -> None:
    users = [f"u{k:02d}" for k in range(48)]
    changes = {"user_id": users, "item_id": ["a"] * 48, "yes": [0.9] * 48, "qualified": [True] * 48}
    pairs = interactions.read(write(tmp_path, **changes), USERS, Update(), True)
    assert {user for _, user, label in told(pairs) if not label} == {"u48", "u49"}


def test_items_of_one_class_can_be_left_out(tmp_path: Path) -> None:
    pairs = found(tmp_path, balance=False)
    both = pairs.of_both_classes()
    assert both.items.to_pylist() == ["b", "c"]
    assert told(both) == [pair for pair in told(pairs) if pair[0] != "a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_id": ["u01"] * 8 + ["nobody"]}, r"column user_id: nobody has no row in split=train"),
        ({"user_id": [*["u01"] * 8, None]}, r"row group 2: column 'user_id': expected no nulls, found 1"),
        ({"qualified": [1] * 9}, r"row group 0: column 'qualified': expected true or false, found int64"),
        ({"user_id": list(range(9))}, r"row group 0: column 'user_id': expected string, found int64"),
        ({"yes": [None] * 9, "qualified": [False] * 9}, r"expected pairs that were judged"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(InputError, match=rf"simulated\.parquet: {message}"):
        interactions.read(path, USERS, Update(), False)


def test_a_file_without_rows_or_columns_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    pq.write_table(pq.read_table(path).drop_columns(["yes"]), path)
    with pytest.raises(InputError, match="'yes' is missing"):
        interactions.read(path, USERS, Update(), False)
    path = write(tmp_path)
    pq.ParquetWriter(path, pq.read_schema(path)).close()
    with pytest.raises(InputError, match="expected simulated interactions, found no rows"):
        interactions.read(path, USERS, Update(), False)


def test_pairs_are_by_item(tmp_path: Path) -> None:
    assert (np.diff(found(tmp_path, True).item) >= 0).all()
