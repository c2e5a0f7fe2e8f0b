from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys.data import prepare, schema
from recsys.data.check import check
from recsys.errors import InputError
from tests.data.logs import config, random_log, read

Edit = Callable[[pa.Table], pa.Table]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    prepare.write(random_log(), config(path).data, path, fingerprint="mark")
    return path


def edit(file: Path, change: Edit) -> None:
    pq.write_table(change(pq.ParquetFile(file).read()), file, row_group_size=128, store_schema=False)


def put(name: str, row: int, value: Any, kind: pa.DataType | None = None) -> Edit:
    """Replaces one value of a column."""

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        return table.set_column(
            table.column_names.index(name), name, pa.array(values, kind or table.schema.field(name).type)
        )

    return change


def recast(name: str, kind: pa.DataType) -> Edit:
    def change(table: pa.Table) -> pa.Table:
        values = pa.array([None if kind == pa.null() else str(value) for value in table[name].to_pylist()])
        return table.set_column(table.column_names.index(name), name, values.cast(kind))

    return change


def part(path: Path, split: str) -> Path:
    return schema.split_files(path, split)[0]


def test_a_sound_dataset_passes(made: Path) -> None:
    assert check(config(made)) == schema.read_info(made)


@pytest.mark.parametrize("rule", ["cold-items", "temporal", "leave-one-out"])
@pytest.mark.parametrize("label", ["column", "observed"])
def test_every_rule_passes(rule: str, label: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    settings = config(path, data__split__rule=rule, data__label__rule=label)
    info = prepare.write(random_log(), settings.data, path, fingerprint="mark")
    if (rule, label) == ("leave-one-out", "column"):
        with pytest.raises(InputError, match=r"found 1 in all \d+ rows: no AUC; leave-one-out needs .*=observed"):
            check(settings)
    else:
        assert check(settings) == info


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("train", lambda t: t.drop_columns(["timestamp"]), r"no column 'timestamp'; it has user_id, item_id, label"),
        ("valid", lambda t: t.drop_columns(["device"]), "no column 'device'"),
        ("train", put("user_id", 130, None), "row group 1: column 'user_id': row 2: is null"),
        ("test", put("item_id", 0, None), "row group 0: column 'item_id': row 0: is null"),
        ("train", put("label", 129, 2), "row group 1: column 'label': row 1: expected 0 or 1, found 2"),
        ("train", put("label", 3, None), "column 'label': row 3: is null"),
        ("train", recast("label", pa.string()), "column 'label': expected int8, found string"),
        ("train", recast("timestamp", pa.float64()), "column 'timestamp': expected int64 seconds, found double"),
        ("train", recast("hour", pa.string()), r"column 'hour': expected numbers \(dense feature\), found string"),
        ("train", recast("device", pa.null()), "column 'device': expected string or integer"),
        (
            "feedback",
            put("hour", 4, float("nan"), pa.float64()),
            "column 'hour': row 4: expected a finite number or null",
        ),
        (
            "test",
            put("hour", 5, float("inf"), pa.float64()),
            "column 'hour': row 5: expected a finite number .* found inf",
        ),
        ("test", put("history", 7, ["i1"] * 9), r"column 'history': row 7: expected at most 8 items .* found 9"),
        ("test", put("history_label", 7, [1] * 8 + [0] * 3), "column 'history_label': row 7: expected . values"),
        ("test", put("history_label", 7, [1, 2] * 4), "column 'history_label': row 7: expected 0 or 1, found 2"),
        ("test", put("history", 200, [None] * 8), r"row group 1: column 'history"),
        ("test", lambda t: t.slice(0, 0), r"split=test: empty: no rows in 1 files"),
        ("test", lambda t: t.slice(0, 200), r"split=test: expected \d+ rows by dataset.yaml, found 200"),
    ],
)
def test_bad_interactions(split: str, change: Edit, message: str, made: Path) -> None:
    edit(part(made, split), change)
    with pytest.raises(InputError, match=message) as error:
        check(config(made))
    assert f"split={split}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("users.parquet", put("user_id", 3, "u4"), "column 'user_id': u4 occurs 2 times; expected once"),
        ("users.parquet", put("user_id", 3, None), "row group 0: column 'user_id': row 3: is null"),
        ("users.parquet", lambda t: t.drop_columns(["age"]), "no column 'age'; it has user_id"),
        ("users.parquet", lambda t: t.slice(0, 0), "no rows"),
        ("items.parquet", put("price", 6, float("nan")), "column 'price': row 6: expected a finite number or null"),
        (
            "items.parquet",
            recast("tags", pa.string()),
            "column 'tags': expected list of string or integer, found string",
        ),
        ("items.parquet", lambda t: t.drop_columns(["title"]), "no column 'title'"),
        ("items.parquet", recast("item_id", pa.binary()), "column 'item_id': expected string or int64, found binary"),
    ],
)
def test_bad_users_and_items(name: str, change: Edit, message: str, made: Path) -> None:
    edit(made / name, change)
    with pytest.raises(InputError, match=message) as error:
        check(config(made))
    assert name in str(error.value)


def test_a_null_dense_value_is_allowed(made: Path) -> None:
    edit(made / "items.parquet", put("price", 6, None))
    assert check(config(made))


def test_ids_of_another_type(made: Path) -> None:
    edit(made / "items.parquet", lambda t: t.set_column(0, "item_id", pa.array(np.arange(t.num_rows))))
    with pytest.raises(InputError, match=r"column 'item_id': expected int64 as in items\.parquet, found string"):
        check(config(made))


def test_a_truncated_file_is_named(made: Path) -> None:
    file = part(made, "valid")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"split=valid/part-00000\.parquet: truncated or not Parquet"):
        check(config(made))


def test_a_damaged_row_group_is_named(made: Path) -> None:
    file = part(made, "test")
    metadata = pq.read_metadata(file)
    column = metadata.row_group(2).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"split=test/part-00000\.parquet: row group 2: damaged"):
        check(config(made))


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet", "held_out.parquet", "dataset.yaml"])
def test_a_missing_file_is_named(name: str, made: Path) -> None:
    (made / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        check(config(made))


def test_a_missing_split_is_named(made: Path) -> None:
    part(made, "valid").unlink()
    with pytest.raises(InputError, match="split=valid: no part-"):
        check(config(made))


def test_held_out_items_in_train_or_in_a_history_are_leaks(made: Path) -> None:
    new = pq.read_table(made / schema.HELD_OUT)["item_id"][0].as_py()
    before = part(made, "train").read_bytes()
    edit(part(made, "train"), put("item_id", 140, new))
    with pytest.raises(InputError, match=f"row group 1: column 'item_id': row 12: leak: {new} is held out"):
        check(config(made))
    part(made, "train").write_bytes(before)
    long = next(k for k, items in enumerate(read(made, "test")["history"].to_pylist()) if len(items) == 8)
    edit(part(made, "test"), put("history", long, [new] * 8))
    with pytest.raises(InputError, match=f"column 'history': leak: {new} is held out"):
        check(config(made))


@pytest.mark.parametrize("changes", [{"data__split__rule": "temporal"}, {"data__split__cut": "time"}])
def test_disorder_between_splits_is_a_leak(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    settings = config(path, **changes)
    info = prepare.write(random_log(), settings.data, path, fingerprint="mark")
    assert check(settings) == info
    late = info.time_range["valid"][0]
    edit(part(path, "train"), put("timestamp", 130, late))
    with pytest.raises(
        InputError, match=f"row group 1: column 'timestamp': leak: .* train is older than valid, but {late}"
    ):
        check(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__split__seed": 1}, "data.split.seed: the dataset was made with 0, the config says 1"),
        ({"data__split__cut": "time"}, "data.split.cut: the dataset was made with 'user', the config says 'time'"),
        ({"data__split__rule": "temporal"}, "data.split.rule"),
        ({"data__label__rule": "liked"}, "data.label"),
        ({"data__split__new_share": 0.3}, "data.split.new_share: the dataset was made with 0.2, the config says 0.3"),
        ({"data__split__min_rows": 6}, "data.split.min_rows: the dataset was made with 5, the config says 6"),
        ({"data__split__valid_share": 0.1}, "data.split.valid_share: the dataset was made with 0.2, .* says 0.1"),
        ({"data__split__exposures": [0, 2]}, r"data.split.exposures: the dataset was made with \[0, 2, 4\]"),
        ({"data__history": 9}, "data.history: the dataset was made with 8, the config says 9"),
    ],
)
def test_a_dataset_of_another_config(changes: dict[str, Any], message: str, made: Path) -> None:
    with pytest.raises(InputError, match=message):
        check(config(made, **changes))


@pytest.mark.parametrize(
    ("settings", "other", "message"),
    [
        ({"split__rule": "temporal"}, {"split__test_share": 0.3}, "data.split.test_share"),
        ({"split__rule": "cold-items"}, {"split__new_share": 0.3}, "data.split.new_share"),
        ({"label__rule": "observed"}, {"label__threshold": 3}, "data.label.threshold"),
        ({"split__rule": "temporal"}, {"split__new_share": 0.3, "split__min_rows": 9, "label__threshold": 3}, None),
    ],
)
def test_only_settings_that_the_rule_reads_must_match(
    settings: dict[str, Any], other: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    path.mkdir()
    first, second = ({f"data__{key}": x for key, x in changes.items()} for changes in (settings, settings | other))
    info = prepare.write(random_log(), config(path, **first).data, path, fingerprint="mark")
    assert check(config(path, **first)) == info
    if message is None:
        assert check(config(path, **second)) == info
    else:
        with pytest.raises(InputError, match=message):
            check(config(path, **second))


def test_a_dataset_without_settings_is_known_by_its_manifest(made: Path) -> None:
    (made / schema.SETTINGS).unlink()
    assert check(config(made, data__split__min_rows=6))
    with pytest.raises(InputError, match=r"data\.split\.exposures"):
        check(config(made, data__split__exposures=[0, 2]))
    (made / schema.SETTINGS).write_text("[1]")
    with pytest.raises(InputError, match=r"settings\.yaml: not the settings of a prepared dataset"):
        check(config(made))


@pytest.mark.parametrize(("split", "label"), [("train", 1), ("valid", 0)])
def test_labels_of_one_class_are_refused(split: str, label: int, made: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        same = pa.array([label] * table.num_rows, pa.int8())
        return table.set_column(table.column_names.index("label"), "label", same)

    edit(part(made, split), change)
    with pytest.raises(
        InputError, match=rf"split={split}: column 'label': expected both 0 and 1, found {label} in all"
    ):
        check(config(made))


def test_categorical_ids_of_users_items_and_held_out_items(made: Path) -> None:
    for name, key in (("users", "user_id"), ("items", "item_id"), ("held_out", "item_id")):
        table = pq.read_table(made / f"{name}.parquet")
        coded = table.set_column(table.column_names.index(key), key, table[key].dictionary_encode())
        pq.write_table(coded, made / f"{name}.parquet", row_group_size=10)
    assert check(config(made))


def test_a_dataset_of_ones_own_need_not_match_the_split(made: Path) -> None:
    schema.write_info(replace(schema.read_info(made), fingerprint=""), made)
    assert check(config(made, data__split__seed=1, data__label__rule="liked"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema_version: expected 1, found 99"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"history": None}, r"dataset\.yaml: history: Field required"),
        ({"history": "long"}, r"dataset\.yaml: history: Input should be a valid integer"),
    ],
)
def test_bad_manifest(change: dict[str, Any], message: str, made: Path) -> None:
    file = made / schema.MANIFEST
    tree = yaml.safe_load(file.read_text()) | change
    file.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        check(config(made))
    file.write_text("{")
    with pytest.raises(InputError, match="not YAML"):
        check(config(made))


@pytest.mark.parametrize(("name", "expected"), [("text", "string"), ("categories", "list<string>")])
def test_texts_of_items_have_the_types_that_an_encoder_reads(made: Path, name: str, expected: str) -> None:
    def numbers(table: pa.Table) -> pa.Table:
        values = pa.array([[k] for k in range(len(table))] if name == "text" else [1] * len(table))
        rest = table.drop_columns([name]) if name in table.column_names else table
        return rest.append_column(name, values)

    edit(made / schema.ITEMS, numbers)
    with pytest.raises(InputError, match=rf"items\.parquet: column '{name}': expected {expected}, found"):
        check(config(made))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"part-00000.parquet: no column 'importance'"),
        ({0: "much"}, "column 'importance': expected numbers"),
        ({130: -1.0}, "row group 1: column 'importance': row 2: expected a weight from 0 on .*, found -1.0"),
        ({5: float("nan")}, "row group 0: column 'importance': row 5: expected a weight from 0 on .*, found nan"),
        ({5: None}, "row group 0: column 'importance': row 5: is null"),
    ],
)
def test_bad_weights_of_training_rows(values: dict[int, Any], message: str, made: Path) -> None:
    """Other splits need no such column."""
    asked = config(made)
    asked = replace(asked, train=replace(asked.train, weight="importance"))
    texts = any(isinstance(value, str) for value in values.values())

    def weigh(table: pa.Table) -> pa.Table:
        column = [values.get(k, "1" if texts else 1.0) for k in range(table.num_rows)]
        return table.append_column("importance", pa.array(column))

    for file in schema.split_files(made, "train") if values else []:
        edit(file, weigh)
    with pytest.raises(InputError, match=message):
        check(asked)
