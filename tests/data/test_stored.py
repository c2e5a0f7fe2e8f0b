"""Row groups as stored: footers are kept, and never used for a file that has been written since."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data import stored
from recsys.data.pieces import row_groups
from recsys.data.stored import footers, read_group
from recsys.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    table = pa.table({"id": ["a", "b", "a", "c"], "tags": [["x"], [], ["x", "y"], None], "n": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "part.parquet", row_group_size=2)
    return tmp_path / "part.parquet"


def test_a_row_group_holds_the_columns_asked_for_with_strings_as_dictionaries(file: Path) -> None:
    known, pieces = footers(), row_groups([file])
    tables = [read_group(piece, ["tags", "id"], known) for piece in pieces]
    whole = pq.read_table(file).select(["tags", "id"])
    assert [row for table in tables for row in table.select(["tags", "id"]).to_pylist()] == whole.to_pylist()
    assert pa.types.is_dictionary(tables[0]["id"].type) and pa.types.is_dictionary(tables[0]["tags"].type.value_type)


def test_a_footer_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, pieces, asked, original = footers(), row_groups([file]), list[Path](), pq.read_metadata

    def counted(path: Path) -> pq.FileMetaData:
        asked.append(path)
        return original(path)

    monkeypatch.setattr(pq, "read_metadata", counted)
    for piece in [*pieces, *pieces]:
        read_group(piece, ["n"], known)
    assert asked == [file]


@pytest.mark.parametrize(("chunks", "expected"), [(1 << 15, "ab"), (6, "aba")])
def test_footers_are_kept_up_to_a_size(file: Path, monkeypatch: pytest.MonkeyPatch, chunks: int, expected: str) -> None:
    """Each is of three columns in two row groups."""
    files, asked = {"a": file, "b": file.with_name("b.parquet")}, list[str]()
    files["b"].write_bytes(file.read_bytes())
    monkeypatch.setattr(stored, "_CHUNKS", chunks)

    def counted(path: Path) -> pq.FileMetaData:
        asked.append(path.stem[0])
        return pq.read_metadata(path)

    monkeypatch.setattr(stored, "metadata_of", counted)
    known = footers()
    for name in "aabba":
        read_group(row_groups([files[name]])[0], ["n"], known)
    assert "".join(asked).replace("p", "a") == expected


def test_a_file_written_since_is_refused_though_its_footer_is_known(file: Path) -> None:
    known, [first, _] = footers(), row_groups([file])
    read_group(first, ["n"], known)
    pq.write_table(pa.table({"id": ["z"] * 9, "tags": [["x"]] * 9, "n": range(9)}), file, row_group_size=3)
    with pytest.raises(InputError, match=r"part.parquet: row group 0: expected the file as when the split was opened"):
        read_group(first, ["n"], known)
    [again, *_] = row_groups([file])
    assert read_group(again, ["n"], known)["n"].to_pylist() == [0, 1, 2]
