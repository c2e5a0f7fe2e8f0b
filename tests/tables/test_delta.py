"""The format of a delta: what is written is read, and what is not as it must be is refused with its place."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.errors import InputError
from recsys.tables import delta, manifest
from recsys.tables.delta import FORMAT
from recsys.tables.piece import Piece
from tests.tables.changes import VERSION, at_random, piece, rows_of, same, written


def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "ROWS", 4)
    items, users = at_random(1, [0, 3, 7, 8, 9, 11, 12, 40]), at_random(2, [5, 6], dim=16)
    made = written(tmp_path / "d", {"item_id": items, "user_id": users})
    for found in (made, delta.read(tmp_path / "d")):
        found.check()
        assert same(rows_of(found, "item_id"), items) and same(rows_of(found, "user_id"), users)
        assert found.rows == 10 and found.groups("item_id") == 2 and found.bases == (replace(VERSION, delta=0),)
    shares = [[part.rows.tolist() for part in made.pieces("item_id", place, 2)] for place in range(2)]
    assert shares == [[[0, 3, 7, 8]], [[9, 11, 12, 40]]]
    plain = pq.read_table(tmp_path / "d" / "item_id.parquet")
    assert plain.column_names == ["table", "item_id", "row", "vector", "state", "source", "base_version", "delta"]
    assert plain["base_version"].to_pylist() == ["lineage/dense/7"] * 8 and plain["item_id"].to_pylist()[0] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": torch.tensor([3, 3])}, "column row: expected rising rows"),
        ({"rows": torch.tensor([4, 3])}, "column row: expected rising rows"),
        ({"rows": torch.tensor([-1, 3])}, "column row: expected rising rows"),
        ({"rows": torch.tensor([0, 3])}, "item_id: new 3 owns row 0"),
        ({"vectors": torch.tensor([[0.0] * 8, [0.0] * 7 + [float("inf")]])}, "column vector: row 5: expected finite"),
        ({"state": torch.tensor([0.0, -1.0])}, "column state: row 5: expected a finite number, 0 or more"),
        ({"state": torch.tensor([float("nan"), 1.0])}, "column state: row 3"),
    ],
)
def test_rows_that_no_table_could_take_are_not_written(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    bad = replace(piece("item_id", at_random(1, [3, 5])), **change)
    with pytest.raises(InputError, match=said):
        delta.write(tmp_path, [bad], 1, 1)
    assert not (tmp_path / manifest.NAME).exists()


def test_pieces_of_a_table_come_in_order(tmp_path: Path) -> None:
    parts = [piece("item_id", at_random(1, [3, 5])), piece("item_id", at_random(1, [5, 9]))]
    with pytest.raises(InputError, match="item_id: expected rows in order, found 5 late"):
        delta.write(tmp_path, parts, 1, 1)


def resealed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest, and give it the checksums that fit."""
    told = manifest.read(folder, FORMAT)
    change(told)
    files = {path.name: manifest.stamp(path) for path in folder.glob("*.parquet")}
    rest = {key: value for key, value in told.items() if key not in ("format", "version", "files")}
    manifest.write(folder, FORMAT, files, **rest)


def forged(folder: Path, change: Callable[[pa.Table], pa.Table], **options: Any) -> None:
    """Change a table's file, under checksums that fit."""
    path = folder / "item_id.parquet"
    pq.write_table(change(pq.read_table(path)), path, **options)
    resealed(folder, lambda told: None)


def with_column(name: str, column: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, column)


TEXT = pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns("state"), "column state: expected float, found none"),
        (lambda t: t.slice(1), "expected 3 rows, found 2"),
        (lambda t: t.take([1, 0, 2]), "row group 0: column row: expected rising rows"),
        (with_column("row", pa.array([3, 5, 9], pa.int32())), "column row: expected int64, found int32"),
        (with_column("row", pa.array([3, None, 9], pa.int64())), "row group 0: column row: expected no null"),
        (with_column("state", pa.array([0, 1, float("nan")], pa.float32())), "column state: row 9"),
        (with_column("vector", pa.array([[0.0] * 4] * 3, pa.list_(pa.float32(), 4))), "column vector: expected fixed"),
        (with_column("vector", pa.array([[0.0] * 7 + [None]] * 3, pa.list_(pa.float32(), 8))), "vector: expected no n"),
        (with_column("table", pa.array(["user_id"] * 3).cast(TEXT)), "column table: expected item_id"),
        (with_column("base_version", pa.array(["a/b/1"] * 3).cast(TEXT)), "base_version: 'a/b/1' is not in the"),
        (with_column("delta", pa.array([1, 2, 1])), "column delta: row 5: expected 1 to 1, found 2"),
        (with_column("item_id", pa.array([1, 2, 3])), "column item_id: expected string, found int64"),
    ],
)
def test_forged_files_are_refused(tmp_path: Path, change: Callable[[pa.Table], pa.Table], said: str) -> None:
    made = written(tmp_path / "d", {"item_id": at_random(1, [3, 5, 9])})
    forged(made.folder, change)
    with pytest.raises(InputError, match=said) as refused:
        delta.read(made.folder).check()
    assert "item_id.parquet" in str(refused.value)


def test_rows_that_fall_from_one_group_to_the_next_are_refused(tmp_path: Path) -> None:
    made = written(tmp_path / "d", {"item_id": at_random(1, [3, 5, 9, 11])})
    forged(made.folder, lambda t: t.take([2, 3, 0, 1]), row_group_size=2)
    with pytest.raises(InputError, match="row group 1: column row: expected more than 11"):
        delta.read(made.folder).check()
    forged(made.folder, lambda t: pa.concat_tables([t] * 20_000))
    with pytest.raises(InputError, match=r"expected 4 rows, found 80000"):
        delta.read(made.folder).check()


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(first=3),
        lambda told: told.update(forced="yes"),
        lambda told: told.update(made_of=[7]),
        lambda told: told.pop("made_of"),
        lambda told: told.update(last=-1),
        lambda told: told.update(steps=[1]),
        lambda told: told.update(steps=[1, "x"]),
        lambda told: told.update(bases=["lineage/dense"]),
        lambda told: told.update(bases=[7]),
        lambda told: told.update(tables={}),
        lambda told: told["tables"]["item_id"].update(rows=2.5),
        lambda told: told["tables"]["item_id"].update(dim=True),
        lambda told: told["tables"]["item_id"].update(more=1),
        lambda told: told["tables"].update({"../item_id": told["tables"].pop("item_id")}),
        lambda told: told.pop("first"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    made = written(tmp_path / "d", {"item_id": at_random(1, [3])})
    resealed(made.folder, change)
    with pytest.raises(InputError, match=r"manifest.json: not a delta's manifest"):
        delta.read(made.folder)


def test_of_several_pieces_at_once_each_row_has_its_own(tmp_path: Path) -> None:
    rows = at_random(1, [3, 5, 9])
    whole = piece("item_id", rows)
    some = whole.take(torch.tensor([2, 0]))
    assert some.rows.tolist() == [9, 3] and some.ids.to_pylist() == ["new 9", "new 3"]
    assert torch.equal(some.vectors[0], rows[9][1]) and isinstance(some, Piece)
    assert json.loads((written(tmp_path / "d", {"item_id": rows}).folder / "manifest.json").read_text())["bases"]
