from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from recsys.evaluate.vectors import read_vectors

USERS, ITEMS = pa.array(["a", "b", "c"]), pa.array([1, 2, 3], pa.int64())


def write(path: Path, ids: list[Any], vectors: Any, kind: Any = None) -> None:
    """`kind` is the vectors' Arrow type: by default float32 lists of one width, as tools.export writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array(vectors, kind or pa.list_(pa.float32(), len(vectors[0])))
    pq.write_table(pa.table({"id": ids, "row": range(len(ids)), "vector": column}), path, row_group_size=2)


def both(folder: Path) -> Path:
    write(folder / "user_id.parquet", ["a", "b", "c"], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    write(folder / "item_id" / "part-00000.parquet", [None, 3, 9], [[7.0, 8.0], [3.0, 3.0], [9.0, 9.0]])
    write(folder / "item_id" / "part-00001.parquet", [1], [[1.0, 1.0]], pa.large_list(pa.float64()))
    (folder / "item_id" / ".part-00002.parquet").write_text("half written")
    return folder


def test_vectors_come_in_the_order_asked_and_unknown_ids_get_the_unknown_row(tmp_path: Path) -> None:
    found = read_vectors(both(tmp_path), USERS.take([2, 0, 1]), ITEMS)
    assert found.users.tolist() == [[5, 6], [1, 2], [3, 4]]
    assert found.items.tolist() == [[1, 1], [7, 8], [3, 3]]
    assert found.unknown_users.tolist() == [False] * 3 and found.unknown_items.tolist() == [False, True, False]
    assert found.users.dtype == found.items.dtype == np.float32


def test_empty_row_groups_and_parts_are_passed_over(tmp_path: Path) -> None:
    expected = read_vectors(both(tmp_path), USERS, ITEMS)
    nothing = pq.read_table(tmp_path / "item_id" / "part-00000.parquet").slice(0, 0)
    with pq.ParquetWriter(tmp_path / "item_id" / "part--first.parquet", nothing.schema) as writer:
        writer.write_table(nothing)
    users = pq.read_table(tmp_path / "user_id.parquet")
    with pq.ParquetWriter(tmp_path / "user_id.parquet", users.schema) as writer:
        for part in (users[:0], users[:2], users[:0], users[2:]):
            writer.write_batch(part.combine_chunks().to_batches()[0]) if len(part) else writer.write_table(part)
    assert pq.ParquetFile(tmp_path / "user_id.parquet").num_row_groups > 2
    found = read_vectors(tmp_path, USERS, ITEMS)
    assert found.users.tolist() == expected.users.tolist() and found.items.tolist() == expected.items.tolist()


def test_without_an_unknown_row_unknown_ids_get_zeros(tmp_path: Path) -> None:
    found = read_vectors(both(tmp_path), pa.array(["b", "nobody"]), ITEMS)
    assert found.users.tolist() == [[3, 4], [0, 0]] and found.unknown_users.tolist() == [False, True]


@pytest.mark.parametrize(
    ("ids", "vectors", "kind", "message"),
    [
        ([1, 2, 3], [[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float32()), "'vector': expected no nulls, found 1"),
        ([1, 2, 3], [[1.0, 2.0], [3.0, 4.0], [np.nan, 0.0]], None, "group 1: column 'vector': id 3: expected 2 finite"),
        ([1, 2, 3], [[1.0, 2.0], [3.0, np.inf], [0.0, 0.0]], None, "group 0: column 'vector': id 2: expected 2 finite"),
        ([1, 2], [[1.0, 2.0], [3.0, None]], None, "group 0: column 'vector': id 2: expected 2 finite values"),
        ([1, 2], [[1.0, 2.0], [3.0]], pa.list_(pa.float32()), "id 2: expected 2 finite values"),
        ([1, 2, 3], [[1.0], [2.0], [3.0, 4.0]], pa.list_(pa.float32()), "group 1: .* id 3: expected 1 finite values"),
        ([1, 2, 3], [[1.0], [2.0], [3.0]], None, "those in user_id have 2 values, those in item_id 1"),
        ([1, 2], [1.0, 2.0], pa.float32(), "expected lists of float32, found float"),
        ([1, 2], [["x"], ["y"]], pa.list_(pa.string()), "expected lists of float32, found list<element: string>"),
        ([1, 2], [[1, 2], [3, 4]], pa.list_(pa.int8()), "expected lists of float32, found list<element: int8>"),
        ([1, 2], [[], []], pa.list_(pa.float32()), "group 0: column 'vector': expected at least one value"),
        ([1, 2], [[1e300], [1.0]], pa.list_(pa.float64()), "id 1: expected 1 finite values"),
        ([1, 1, 3], [[1.0, 2.0]] * 3, None, "group 0: id 1 has a vector more than once"),
        ([1, 2, 1], [[1.0, 2.0]] * 3, None, "group 1: id 1 has a vector more than once"),
        ([None, 2, None], [[1.0, 2.0]] * 3, None, "group 1: id None has a vector more than once"),
        (["1", "2"], [[1.0, 2.0]] * 2, None, "item_id: column 'id': expected ids of type int64, found string"),
        ([1, 2], [[1e30, 2.0]] * 2, None, "overflow in a dot product"),
        ([], np.zeros((0, 2)).tolist(), pa.list_(pa.float32()), "item_id: expected at least one vector, found none"),
    ],
)  # fmt: skip
def test_bad_vectors_are_named(tmp_path: Path, ids: list[Any], vectors: Any, kind: Any, message: str) -> None:
    write(tmp_path / "user_id.parquet", ["a", "b"], [[1e20, 2.0], [3.0, 4.0]])
    write(tmp_path / "item_id.parquet", ids, vectors, kind)
    with pytest.raises(InputError, match=message):
        read_vectors(tmp_path, USERS, ITEMS)


def test_a_missing_side_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected vectors in user_id/\*\.parquet or user_id\.parquet, found neither"):
        read_vectors(tmp_path, USERS, ITEMS)
    pq.write_table(pa.table({"id": ["a"], "embedding": [[1.0]]}), tmp_path / "user_id.parquet")
    with pytest.raises(InputError, match="expected columns id, vector; 'vector' is missing"):
        read_vectors(tmp_path, USERS, ITEMS)
