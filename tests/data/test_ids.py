"""The id map against a dictionary: rows never move, unknown is row 0, files come back whole or not at all."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.ids import IdMap
from recsys.errors import InputError


def made(ids: list[str] | list[int], capacity: int = 0) -> IdMap:
    return IdMap.fit("item_id", pa.array(ids), np.arange(len(ids)), capacity, 0.25)


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
def test_rows_are_those_of_a_dictionary(kind: pa.DataType) -> None:
    order = np.random.default_rng(0)
    raw = [int(x) for x in order.choice(10**12, 200, replace=False)]
    ids = [str(x) for x in raw] if kind == pa.string() else raw
    known = {x: k + 1 for k, x in enumerate(sorted(ids[:150]))}
    id_map = IdMap.fit("x", pa.array(ids[:150], kind), np.zeros(150, np.int64), 0, 0.25)
    asked = [None if k % 11 == 0 else ids[k % 200] for k in order.integers(0, 1000, 3000)]
    expected = [known.get(x, 0) for x in asked]  # type: ignore[arg-type]
    plain = pa.array(asked, kind)
    assert id_map.rows(plain).tolist() == expected
    assert id_map.rows(plain.dictionary_encode()).tolist() == expected
    chunks = pa.chunked_array([plain[:700].dictionary_encode(), plain[700:].dictionary_encode()])
    assert id_map.rows(chunks).tolist() == expected
    assert id_map.rows(plain).dtype == np.int64


@pytest.mark.parametrize("column", [pa.array([], pa.string()), pa.array([None, None], pa.string()), pa.nulls(3)])
def test_nothing_and_nulls_are_unknown(column: pa.Array) -> None:
    assert made(["a"]).rows(column).tolist() == [0] * len(column)
    assert made(["a"]).rows(column.dictionary_encode()).tolist() == [0] * len(column)


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("asked", [3, 900])
def test_few_ids_and_many_are_found_alike(integers: bool, asked: int) -> None:
    """Arrow looks up as many as the map has, pandas a few of them."""
    order = np.random.default_rng(asked)
    drawn = order.integers(0, 2000, asked).tolist()
    ids: list[int] | list[str] = list(range(1000)) if integers else [f"id {k}" for k in range(1000)]
    named: list[int] | list[str] = drawn if integers else [f"id {k}" for k in drawn]
    known = IdMap("x", pa.array(ids), np.zeros(1000, np.int64), 1001)
    gone = known.assign(np.array([5, 7]), pa.nulls(2, known.ids.type))
    expected = [k + 1 if k < 1000 else 0 for k in drawn]
    assert known.rows(pa.array(named)).tolist() == expected
    assert gone.rows(pa.array(named)).tolist() == [0 if row in (5, 7) else row for row in expected]
    assert known.rows(pa.array([*named, None])).tolist() == [*expected, 0]


@pytest.mark.parametrize("index", [pa.int8(), pa.uint16(), pa.int32(), pa.int64()])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_dictionaries_of_any_index(index: pa.DataType, dtype: type) -> None:
    known = IdMap("x", pa.array(["a", "b"]), np.zeros(2, np.int64), 3)
    places = pa.array([1, 0, None, 2, 1, 1], index)
    found = known.rows(pa.DictionaryArray.from_arrays(places, pa.array(["b", "a", "c"])).slice(1), dtype)
    assert found.tolist() == [2, 0, 0, 1, 1] and found.dtype == dtype


def test_ids_of_the_other_type_are_refused() -> None:
    with pytest.raises(InputError, match="item_id: expected ids of type string, found int64"):
        made(["1"]).rows(pa.array([1]))
    with pytest.raises(InputError, match="item_id: expected ids of type int64, found string"):
        made([1]).rows(pa.array(["1"]))


def test_a_fit_depends_on_the_set_alone_and_counts_go_along() -> None:
    one = IdMap.fit("x", pa.array(["b", "c", "a"]), np.array([2, 3, 1]), 0, 0.5)
    assert one.ids.to_pylist() == ["a", "b", "c"] and one.counts.tolist() == [1, 2, 3]


def test_an_auto_sized_table_has_spare_rows() -> None:
    assert made(list(range(100))).free == 25
    assert made([1, 2]).free == 8, "at least eight"


def test_a_capacity_that_is_too_small_says_what_is_needed() -> None:
    assert made([1, 2, 3], capacity=4).free == 0
    with pytest.raises(InputError, match=r"item_id: capacity 3 is too small: 3 ids .* at least 4"):
        made([1, 2, 3], capacity=3)


def test_admit_gives_the_next_free_rows_and_moves_nothing() -> None:
    old = made(["m", "k"], capacity=6)
    grown, rows = old.admit(pa.array(["z", "k", None, "a", "z"]))
    assert rows.tolist() == [3, 1, 0, 4, 3]
    assert grown.rows(pa.array(["k", "m"])).tolist() == old.rows(pa.array(["k", "m"])).tolist() == [1, 2]
    assert grown.counts.tolist()[2:] == [0, 0] and grown.capacity == 6 and grown.free == 1


def test_admit_is_idempotent() -> None:
    grown, rows = made([5], capacity=9).admit(pa.array([8, 7]))
    again, same = grown.admit(pa.array([7, 8, 5]))
    assert same.tolist() == [3, 2, 1] and again.ids.equals(grown.ids)
    np.testing.assert_array_equal(rows, [2, 3])


def test_admit_past_the_capacity_gives_the_unknown_row() -> None:
    grown, rows = made([5], capacity=3).admit(pa.array([8, 7, 6]))
    assert rows.tolist() == [2, 0, 0] and grown.free == 0
    assert grown.admit(pa.array([6]))[1].tolist() == [0]


def test_admit_leaves_the_old_map_as_it_was() -> None:
    old = made(["m"], capacity=6)
    old.admit(pa.array(["z"]))
    assert old.rows(pa.array(["z"])).tolist() == [0] and old.free == 4


@pytest.mark.parametrize("ids", [["ä", "b c", ""], [3, -1, 2**60]])
def test_saved_and_loaded(tmp_path: Path, ids: list[str] | list[int]) -> None:
    saved, _ = made(ids, capacity=9).admit(pa.array(["new"] if isinstance(ids[0], str) else [10]))
    saved.save(tmp_path / "map.parquet")
    loaded = IdMap.load(tmp_path / "map.parquet")
    assert (loaded.name, loaded.capacity) == (saved.name, saved.capacity)
    assert loaded.ids.equals(saved.ids) and loaded.counts.tolist() == saved.counts.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["map.parquet"]


def test_damaged_maps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.parquet"
    made(["a", "b"], capacity=9).save(path)
    whole = pq.read_table(path)
    pq.write_table(whole.take([1, 0]), path)
    with pytest.raises(InputError, match="column row: expected 1 to 2 in order"):
        IdMap.load(path)
    pq.write_table(whole.drop_columns("count"), path)
    with pytest.raises(InputError, match="expected an id map with columns id, row, count"):
        IdMap.load(path)
    pq.write_table(whole.replace_schema_metadata(None), path)
    with pytest.raises(InputError, match="expected an id map"):
        IdMap.load(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"map.parquet: not a readable id map"):
        IdMap.load(path)
    with pytest.raises(InputError, match="not a readable id map"):
        IdMap.load(tmp_path / "none.parquet")


@pytest.mark.parametrize("ids", [["a", "b", "c"], [2**60 + 1, 2**60 + 2, 2**60 + 3]])
def test_an_evicted_id_is_unknown_and_its_row_is_given_away_last(ids: list[str] | list[int]) -> None:
    old = made(ids, capacity=5)
    freed = old.assign(np.array([2]), pa.nulls(1, old.ids.type))
    assert freed.rows(pa.array(ids)).tolist() == [1, 0, 3] and freed.free == 2
    assert freed.counts[1] == 0 and old.counts[1] != 0
    assert freed.owners(np.array([0, 1, 2, 3, 4])).to_pylist() == [None, ids[0], None, ids[2], None]
    new = ["x", "y"] if isinstance(ids[0], str) else [7, 8]
    full, rows = freed.admit(pa.array(new))
    assert rows.tolist() == [4, 2] and full.free == 0
    assert full.rows(pa.array([*ids, *new])).tolist() == [1, 0, 3, 4, 2]


def test_rows_change_hands_and_counts_start_anew() -> None:
    old = IdMap("item_id", pa.array(["a", "b", "c"]), np.array([5, 6, 7]), 8)
    new = old.assign(np.array([1, 3, 6]), pa.array(["c", "a", "z"]))
    assert new.ids.to_pylist() == ["c", "b", "a", None, None, "z"]
    assert new.counts.tolist() == [0, 6, 0, 0, 0, 0]
    same = old.assign(np.array([2]), pa.array(["b"]))
    assert same.ids.equals(old.ids) and same.counts.tolist() == [5, 6, 7]
    for rows, ids, said in [
        ([0], ["z"], "row 0: ids own rows 1 to 7"),
        ([8], ["z"], "row 8"),
        ([4, 4], ["y", "z"], "given away twice"),
        ([4], ["a"], "id 'a' would own two rows"),
        ([4, 5], ["z", "z"], "id 'z' would own two rows"),
    ]:
        with pytest.raises(InputError, match=said):
            old.assign(np.array(rows), pa.array(ids))


def test_the_digest_is_of_the_ids_alone() -> None:
    whole = pa.array(["a", "b", "c", "d"])
    counts = np.zeros(2, dtype=np.int64)
    part = IdMap("item_id", whole[1:3], counts, 9)
    assert part.digest() == IdMap("other", pa.array(["b", "c"]), counts + 1, 5).digest()
    assert part.digest() != IdMap("item_id", pa.array(["c", "b"]), counts, 9).digest()
    assert part.digest() != IdMap("item_id", pa.array(["bc", ""]), counts, 9).digest()
