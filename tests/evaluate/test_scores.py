from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from recsys.evaluate import scores
from recsys.rivals.rows import write_scores
from tests.evaluate import tiny


def test_rows_are_the_splits_rows_in_row_id_order(tmp_path: Path) -> None:
    test = tiny.dataset(tmp_path)
    rows = scores.read_rows(tmp_path, "test")
    assert np.array(rows.items.to_pylist())[rows.item].tolist() == test["item_id"].tolist()
    np.testing.assert_array_equal(rows.label, test["label"])
    assert np.array(rows.users.to_pylist())[rows.user].tolist() == test["user_id"].tolist()
    assert len(rows.users) == tiny.USERS  # one code a user
    assert [column.dtype.name for column in (rows.user, rows.item, rows.label)] == ["int32", "int32", "int8"]


def test_scores_come_in_row_id_order_from_a_file_or_from_parts_in_any_order(tmp_path: Path) -> None:
    expected = np.random.default_rng(0).random(500).astype(np.float32)
    order = np.random.default_rng(1).permutation(500)
    whole = tiny.predictions(tmp_path / "whole.parquet", expected[order].astype(np.float64), order)
    np.testing.assert_array_equal(scores.read_scores(whole, 500, "test"), expected)
    tiny.predictions(tmp_path / "parts" / "part-0.parquet", expected[order[:200]], order[:200])
    tiny.predictions(tmp_path / "parts" / "part-1.parquet", expected[order[200:]], order[200:].astype(np.int32))
    (tmp_path / "parts" / ".part-2.parquet").write_text("half written")
    np.testing.assert_array_equal(scores.read_scores(tmp_path / "parts", 500, "test"), expected)


def bad(tmp_path: Path, score: object, ids: object = None, rows: int = 300) -> str:
    """The message for a predictions file whose row groups hold 100 rows each."""
    path = tiny.predictions(tmp_path / "p.parquet", np.asarray(score), None if ids is None else np.asarray(ids))
    with pytest.raises(InputError) as caught:
        scores.read_scores(path, rows, "test")
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5, np.inf])
def test_a_score_that_is_no_probability_names_row_group_and_row(tmp_path: Path, value: float) -> None:
    score = np.full(300, 0.5)
    score[123] = value
    expected = f"FILE: row group 1: row_id 123: expected a score in [0, 1], found {value}"
    assert bad(tmp_path, score) == expected


def test_a_null_score_is_named(tmp_path: Path) -> None:
    table = pa.table({"row_id": [0, 1], "score": [0.5, None]})
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(InputError, match=r"row group 0: row_id 1: expected a score in \[0, 1\], found nan"):
        scores.read_scores(tmp_path / "p.parquet", 2, "test")


def test_missing_rows_are_counted_and_the_first_named(tmp_path: Path) -> None:
    ids = np.delete(np.arange(300), [41, 77])
    message = bad(tmp_path, np.full(298, 0.5), ids)
    assert message == "FILE: 2 of the 300 rows of split 'test' have no score; the first is row_id 41"


@pytest.mark.parametrize("again", [20, 250])
def test_a_row_scored_twice_is_named_in_one_group_or_two(tmp_path: Path, again: int) -> None:
    ids = np.arange(300)
    ids[again] = 10
    message = bad(tmp_path, np.full(300, 0.5), ids)
    assert message == f"FILE: row group {again // 100}: row_id 10 has a score more than once; expected each row id once"


@pytest.mark.parametrize("wrong", [-1, 300])
def test_a_row_id_out_of_range_is_named(tmp_path: Path, wrong: int) -> None:
    ids = np.arange(300)
    ids[5] = wrong
    message = bad(tmp_path, np.full(300, 0.5), ids)
    assert message == f"FILE: row group 0: row_id {wrong}: split 'test' has row ids 0 to 299"


def test_wrong_types_are_named(tmp_path: Path) -> None:
    assert bad(tmp_path, np.ones(300, np.int64)) == (
        "FILE: row group 0: column 'score': expected floating point, found int64"
    )
    assert bad(tmp_path, np.full(300, 0.5), np.arange(300.0)) == (
        "FILE: row group 0: column 'row_id': expected integers, found double"
    )


def test_a_null_row_id_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"row_id": [0, None], "score": [0.5, 0.5]}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="row group 0: column 'row_id': expected no nulls, found 1"):
        scores.read_scores(tmp_path / "p.parquet", 2, "test")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"row_id": [0], "probability": [0.5]}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="expected columns row_id, score; 'score' is missing from"):
        scores.read_scores(tmp_path / "p.parquet", 1, "test")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tiny.predictions(tmp_path / "p.parquet", np.full(300, 0.5))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"p\.parquet: cannot be read as Parquet"):
        scores.read_scores(path, 300, "test")


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tiny.predictions(tmp_path / "p.parquet", np.random.default_rng(0).random(3000), row_group=1000)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).dictionary_page_offset
    assert start is not None
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"p\.parquet: row group 1: cannot be read"):
        scores.read_scores(path, 3000, "test")


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such predictions"):
        scores.read_scores(tmp_path / "none.parquet", 1, "test")
    with pytest.raises(InputError, match=r"expected \.parquet files with row_id and score, found none"):
        scores.read_scores(tmp_path, 1, "test")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"label": [0, 2]}, r"row group 0: column 'label': expected 0 or 1, found \[0, 2\]"),
        ({"user_id": [1, None]}, "row group 0: column 'user_id': expected no nulls, found 1"),
    ],
)
def test_bad_rows_of_the_split_are_named(tmp_path: Path, column: dict[str, list[int]], message: str) -> None:
    folder = tmp_path / "interactions" / "split=test"
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table({"user_id": [1, 2], "item_id": [1, 2], "label": [0, 1]} | column), folder / "part-0.parquet"
    )
    with pytest.raises(InputError, match=message):
        scores.read_rows(tmp_path, "test")


def test_an_empty_split_is_said(tmp_path: Path) -> None:
    tiny.dataset(tmp_path)
    with pytest.raises(InputError, match="split 'valid' has no rows to evaluate"):
        scores.read_rows(tmp_path, "valid")


def test_scores_that_say_where_they_are_from_are_held_to_it(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.parquet", [(np.arange(9), np.full(9, 0.5))], dataset="abc", exposure="8")
    assert len(scores.read_scores(path, 9, "test", "abc", 8)) == len(scores.read_scores(path, 9, "test", "abc")) == 9
    with pytest.raises(InputError, match="made on another dataset"):
        scores.read_scores(path, 9, "test", "abd", 8)
    with pytest.raises(InputError, match="made from 8 kept rows of each new item, not 2"):
        scores.read_scores(path, 9, "test", "abc", 2)
