"""A run's log against a dictionary: order, gaps, compaction, retirement."""

import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import InputError
from recsys.tables import delta, log
from recsys.tables.piece import Piece
from recsys.tables.version import Version
from tests.tables.changes import VERSION, Table, at_random, piece, rows_of, same


def append(run: Path, rows: Table, table: str = "item_id", base: Version = VERSION) -> None:
    log.append(run, [piece(table, rows, base)])


def names(run: Path) -> list[str]:
    return sorted(path.name for path in log.folder_of(run).iterdir())


def test_deltas_are_numbered_and_taken_in_order(tmp_path: Path) -> None:
    assert log.newest(tmp_path) == 0 and log.pending(tmp_path, 0) == []
    for seed in range(3):
        append(tmp_path, at_random(seed, [1, 2 + seed]))
    assert log.newest(tmp_path) == 3 and [each.first for each in log.pending(tmp_path, 1)] == [2, 3]
    assert log.pending(tmp_path, 3) == [] and names(tmp_path)[0] == "00000001-00000001"
    found = {each.first: rows.tolist() for each, rows in log.naming(tmp_path, "item_id", torch.tensor([1, 3, 9]))}
    assert found == {1: [1], 2: [1, 3], 3: [1]}
    assert list(log.naming(tmp_path, "user_id", torch.tensor([1]))) == []


def test_what_is_no_delta_is_not_of_the_log(tmp_path: Path) -> None:
    append(tmp_path, at_random(0, [1]))
    for name in (".00000002-00000002.99999999.tmp", "00000002", "note-1", "1-2"):
        (log.folder_of(tmp_path) / name).mkdir()
    assert log.newest(tmp_path) == 1 and len(log.pending(tmp_path, 0)) == 1


def test_the_log_goes_on_where_others_have_come_to(tmp_path: Path) -> None:
    append(tmp_path, at_random(0, [1]))
    assert log.retire(tmp_path, 1) == 1 and names(tmp_path) == ["retired.json"] and log.newest(tmp_path) == 1
    assert log.pending(tmp_path, 1) == [] and log.every(tmp_path) == []
    with pytest.raises(InputError, match="expected delta 1 next, which is no longer there"):
        log.pending(tmp_path, 0)
    assert log.append(tmp_path, [piece("item_id", at_random(0, [1]))]).first == 2
    with pytest.raises(InputError, match="expected delta 1 next, which is no longer there"):
        log.pending(tmp_path, 0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["a", "b"]), st.sets(st.integers(0, 30), min_size=1, max_size=12), min_size=1),
        min_size=2,
        max_size=6,
    ),
    st.integers(1, 5),
)
def test_a_compacted_log_says_of_each_row_what_the_last_said(deltas: list[dict[str, set[int]]], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta, "ROWS", most)
        run = Path(folder)
        expected: dict[str, Table] = {}
        for number, tables in enumerate(deltas):
            rows = {name: at_random(number, sorted(some), owned=number % 2 == 0) for name, some in tables.items()}
            log.append(run, [piece(name, some) for name, some in rows.items()])
            for name, some in rows.items():
                expected.setdefault(name, {}).update(some)
        made = log.compact(run)
        assert made is not None and names(run) == [made.folder.name]
        made.check()
        assert (made.first, made.last) == (1, len(deltas)) and made.tables.keys() == expected.keys()
        for name, some in expected.items():
            assert same(rows_of(made, name), some)
            assert made.groups(name) >= -(-len(some) // most), "pieces stay small"
        assert log.compact(run) is None and names(run) == [made.folder.name]
        assert [each.last for each in log.pending(run, 1)] == ([len(deltas)])


def test_a_compacted_delta_serves_who_holds_a_part_of_it(tmp_path: Path) -> None:
    for seed in range(3):
        append(tmp_path, at_random(seed, [seed + 1]))
    kept = [shutil.copytree(path, tmp_path / path.name) for path in sorted(log.folder_of(tmp_path).iterdir())]
    log.compact(tmp_path)
    append(tmp_path, at_random(9, [9]))
    pending = log.pending(tmp_path, 2)
    assert [(each.first, each.last) for each in pending] == [(1, 3), (4, 4)]
    # Who holds 1 and 2 may have trained their rows on: of the compacted one only the rest is taken.
    assert [row for part in pending[0].pieces("item_id", after=2) for row in part.rows.tolist()] == [3]
    assert pending[0].owners("item_id", after=1)[0].tolist() == [2, 3]
    # A process that died before it removed the parts has left them: the longest is taken.
    for path in kept:
        shutil.copytree(path, log.folder_of(tmp_path) / path.name)
    assert [(each.first, each.last) for each in log.pending(tmp_path, 0)] == [(1, 3), (4, 4)]
    log.compact(tmp_path)
    assert names(tmp_path) == ["00000001-00000004"]


def test_rows_of_two_runs_are_not_compacted(tmp_path: Path) -> None:
    append(tmp_path, at_random(0, [1]))
    append(tmp_path, at_random(0, [2]), base=Version("lineage", "another", 7))
    with pytest.raises(InputError, match="rows made for other tables"):
        log.compact(tmp_path)
    assert names(tmp_path) == ["00000001-00000001", "00000002-00000002"]


def test_a_damaged_delta_is_refused_by_name(tmp_path: Path) -> None:
    append(tmp_path, at_random(0, [1]))
    path = log.folder_of(tmp_path) / "00000001-00000001" / "item_id.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"item_id.parquet: \d+ bytes, expected \d+"):
        log.pending(tmp_path, 0)


def test_ids_of_integers_are_kept(tmp_path: Path) -> None:
    ids = pa.array([None, 2**60 + 1], pa.int64())
    parts = [Piece.of("item_id", torch.tensor([0, 4]), ids, torch.zeros(2, 8), "test", VERSION) for _ in range(2)]
    for part in parts:
        log.append(tmp_path, [part])
    made = log.compact(tmp_path)
    assert made and [part.ids.to_pylist() for part in made.pieces("item_id")] == [[None, 2**60 + 1]]
