"""Lists on disk: made beside the rows of a dataset, joined to batches by row id, and refused where they do not fit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data import pinnacle_parts
from recsys.data.feedback_rows import Entities, read
from recsys.data.fit import fit
from recsys.data.pinnacle import Lists, lists
from recsys.data.pinnacle_join import Joined
from recsys.data.reader import Reader
from recsys.data.schema import read_info, split_files, write_info, write_settings
from recsys.errors import InputError
from tests import arrived, tiny


def config(home: Path, **prompt: object) -> Config:
    return tiny.config(home / "data", home / "run", prompt={"k": 3, **prompt})


def rows(made: Config, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item, second and user of a split's rows."""
    entities = Entities.read(Path(made.data.path))
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in split_files(made.data.path, split)])
    return entities.item(table["item_id"]), table["timestamp"].to_numpy(), entities.user(table["user_id"])


def expected(made: Config, split: str, exposure: int, whole: bool = False) -> Lists:
    dataset = Path(made.data.path)
    item, second, user = rows(made, split)
    new = (item >= tiny.ITEMS - tiny.NEW) & whole
    return lists(read(dataset, exposure, Entities.read(dataset), 0), made.prompt, item, second, user, new)


def assert_equal(found: Lists, made: Lists) -> None:
    for name, column in vars(made).items():
        if name != "own":  # is not written
            assert np.array_equal(vars(found)[name], column), name


@pytest.mark.parametrize("split", ["train", "valid", "test", "feedback"])
def test_lists_are_joined_row_for_row(split: str, tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    folder = pinnacle_parts.write(made, split, 2)
    for source in split_files(made.data.path, split):
        one, other = pq.read_metadata(source), pq.read_metadata(folder / source.name)
        assert [one.row_group(k).num_rows for k in range(one.num_row_groups)] == [
            other.row_group(k).num_rows for k in range(other.num_row_groups)
        ]
    wanted = expected(made, split, 2, whole=split == "test")
    joined = Joined(made, split, 2)
    assert wanted.taken.any() and wanted.explicit.any()
    assert_equal(joined.of(np.arange(len(wanted.explicit))), wanted)


def test_new_items_show_their_kept_rows_and_no_others(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path), k=5)
    item, _, user = rows(made, "test")
    new = item >= tiny.ITEMS - tiny.NEW
    kept = pq.read_table(split_files(made.data.path, "feedback")[0]).to_pylist()
    for exposure in (0, 2, 5):
        pinnacle_parts.write(made, "test", exposure)
        found = Joined(made, "test", exposure).of(np.arange(len(item)))
        for row in np.flatnonzero(new):
            name = f"item {item[row]:02d}"
            seen = [one for one in kept if one["item_id"] == name and one["rank"] <= exposure]
            liked = {int(one["user_id"][1:]) for one in seen if one["label"]}
            users = {int(one["user_id"][1:]) for one in seen}
            listed = set(found.pinnacle[row].tolist()) - {-1}
            assert listed <= liked - {user[row]}
            if len(users) == len(seen) and liked:  # one place is given up
                assert len(listed) == len(liked) - 1
        assert (exposure == 0) == (not found.taken[new].any())


def test_kept_rows_of_new_items_change_no_list_of_training_rows(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    assert_equal(expected(made, "train", 5), expected(made, "train", 0))


def test_shuffled_batches_take_their_own_lists(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    pinnacle_parts.write(made, "train")
    wanted, joined = expected(made, "train", 0), Joined(made, "train", held=30)
    seen = []
    for batch in Reader(fit(made), "train", 16, shuffle=64, seed=3).epoch():
        row_id = batch.row_id.numpy()
        found = joined.of(row_id)
        real = row_id >= 0
        assert_equal(found[np.flatnonzero(real)], wanted[row_id[real]])
        assert not found.taken[~real].any() and (found.negative[~real] == -1).all()
        seen += row_id[real].tolist()
    assert sorted(seen) == list(range(203)) and (np.diff(seen) < 0).any()


def test_what_was_made_alike_stays_and_what_was_not_is_replaced(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    folder = pinnacle_parts.write(made, "valid", 2)
    before = (folder / "about.json").stat()
    assert pinnacle_parts.write(made, "valid", 2) == folder
    assert (folder / "about.json").stat() == before
    other = config(tmp_path, by="recency")
    with pytest.raises(InputError, match=r"about.json: made with prompt.by='value', the config says 'recency'"):
        Joined(other, "valid", 2)
    pinnacle_parts.write(other, "valid", 2)
    assert_equal(Joined(other, "valid", 2).of(np.arange(41)), expected(other, "valid", 2))
    lender = np.zeros(tiny.ITEMS, np.int32)
    pinnacle_parts.write(other, "valid", 2, lender)
    assert Joined(other, "valid", 2).of(np.arange(41)).borrowed.any()
    assert [path.name for path in folder.parent.iterdir()] == ["split=valid"]


def test_lists_of_another_dataset_are_refused(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    with pytest.raises(InputError, match=r"split=valid/about.json: expected lists of pinnacle feedback"):
        Joined(made, "valid")
    pinnacle_parts.write(made, "valid")
    write_info(replace(read_info(made.data.path), fingerprint="other"), made.data.path)
    with pytest.raises(InputError, match=r"about.json: these lists were made on another dataset"):
        Joined(made, "valid")


def edited(folder: Path, name: str, values: pa.Array | None) -> Path:
    """Replace a column of the first part file, or leave its last row out."""
    path = folder / "part-00000.parquet"
    table = pq.ParquetFile(path).read()
    if values is None:
        table = table.slice(0, table.num_rows - 1)
    else:
        whole = pa.concat_arrays([values, table[name].combine_chunks().slice(len(values))])
        table = table.set_column(table.column_names.index(name), name, whole)
    pq.write_table(table, path, row_group_size=10)
    return path


LIST = pa.list_(pa.string())
BAD = [
    ("pinnacle", pa.array([["u01"], ["u01", "nobody"]], LIST), r"row 1: user 'nobody': expected a user of users"),
    (
        "negative",
        pa.array([["u01", "u02", "u03", "u04"]], LIST),
        r"row 0: expected at most prompt.k=3 entries, found 4",
    ),
    ("pinnacle", pa.array([["u01", None]], LIST), r"row 0: has a null inside"),
    ("pinnacle", pa.array([["u01", "u02", "u03"]], LIST), r"'value'\W*row 0: expected as many entries as 'pinnacle'"),
    ("explicit", pa.array([-1], pa.int32()), r"row 0: expected 0 to the length of 'negative', found -1"),
    ("borrowed", pa.array([None], pa.bool_()), r"expected bool without null"),
]


@pytest.mark.parametrize(("name", "values", "message"), BAD)
def test_bad_lists_are_refused_with_their_place(name: str, values: pa.Array, message: str, tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    path = edited(pinnacle_parts.write(made, "valid"), name, values)
    with pytest.raises(InputError, match=message) as error:
        Joined(made, "valid")
    assert str(error.value).startswith(f"{path}: row group 0: column ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    folder = pinnacle_parts.write(made, "test", 2)
    lengths = pq.read_table(folder / "part-00000.parquet")["value"].combine_chunks().value_lengths().to_numpy()
    row = int(np.argmax(lengths[:10] > 0))
    values = pa.array([[value] * int(length) for length in lengths[: row + 1]], pa.list_(pa.float32()))
    edited(folder, "value", values)
    with pytest.raises(
        InputError, match=rf"row group 0: column 'value': row {row}: expected finite values, found {value}"
    ):
        Joined(made, "test", 2)


def test_lists_of_other_rows_are_refused(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    folder = pinnacle_parts.write(made, "valid")
    edited(folder, "", None)
    with pytest.raises(InputError, match=r"expected 10 rows in row group 1 of part-00000.parquet, .* found 9 rows"):
        Joined(made, "valid")
    (folder / "part-00001.parquet").unlink()
    (folder / "part-00000.parquet").unlink()
    with pytest.raises(InputError, match="found no further row group"):
        Joined(made, "valid")


def test_empty_lists_are_fine(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    folder = pinnacle_parts.write(made, "valid")
    for name in ("pinnacle", "value", "age", "negative"):
        kind = pq.read_schema(folder / "part-00000.parquet").field(name).type
        edited(folder, name, pa.array([[]] * 20, kind))
    edited(folder, "explicit", pa.array([0] * 20, pa.int32()))
    found = Joined(made, "valid").of(np.arange(41))
    assert not found.taken[:20].any() and found.taken[20:].any()


def test_a_length_that_would_tell_drawn_rows_apart_is_refused(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path), even_lengths=False, k=30)
    own = int(np.argmax(expected(made, "test", 0).own))
    assert 0 < own < 150 and pinnacle_parts.write(made, "test").exists()
    write_settings(replace(made.data, label=replace(made.data.label, rule="observed")), made.data.path)
    made = replace(made, prompt=replace(made.prompt, seed=1))
    with pytest.raises(InputError, match=r"column 'user_id': row \d+: leak: gave the item feedback before"):
        pinnacle_parts.write(made, "test")


def refusing(made: Config, column: str, values: pa.Array, split: str) -> str:
    """What is said of a split whose third row group has the column `values` in front."""
    path = split_files(made.data.path, split)[0]
    table = pq.ParquetFile(path).read()
    at = 20 if split == "train" else 0
    column_values = table[column].combine_chunks()
    whole = pa.concat_arrays([column_values[:at], values.cast(column_values.type), column_values[at + len(values) :]])
    table = table.set_column(table.column_names.index(column), column, whole)
    pq.write_table(table, path, row_group_size=10)
    with pytest.raises(InputError) as error:
        pinnacle_parts.write(made, "valid", 2)
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize(("split", "group"), [("train", 2), ("feedback", 0)])
def test_feedback_whose_value_is_not_finite_is_refused(value: float, split: str, group: int, tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    told = refusing(made, "value", pa.array([1.0, None, value], pa.float32()), split)
    assert told == f"row group {group}: column 'value': row 2: expected a finite number or null, found {value}"


def test_a_dataset_that_keeps_too_few_rows_is_refused(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    with pytest.raises(InputError, match="exposure 6: expected 0 to 5, the rows kept of each new item"):
        pinnacle_parts.write(made, "test", 6)


def test_drawn_rows_are_nobodys_feedback(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path))
    dataset = Path(made.data.path)
    entities = Entities.read(dataset)
    assert len(read(dataset, 2, entities, 0).negative.user)
    write_settings(replace(made.data, label=replace(made.data.label, rule="observed")), dataset)
    observed = read(dataset, 2, entities, 0)
    assert not len(observed.negative.user) and len(observed.positive.user)


def test_the_interrupted_leave_nothing_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(arrived.write(tmp_path))
    second = split_files(made.data.path, "valid")[1]
    second.write_bytes(second.read_bytes()[:-9])
    with pytest.raises(InputError, match="part-00001"):
        pinnacle_parts.write(made, "valid")
    with pytest.raises(InputError, match="expected lists"):
        Joined(made, "valid")


def test_about_tells_how_they_were_made(tmp_path: Path) -> None:
    made = config(arrived.write(tmp_path), window=7)
    told = json.loads((pinnacle_parts.write(made, "valid", 2) / "about.json").read_text())
    assert told["dataset"] == "tiny" and told["exposure"] == 2
    assert (told["settings"]["k"], told["settings"]["by"], told["settings"]["window"]) == (3, "value", 7)
