"""What is fitted, against plain Python, and the planted future: later rows cannot change a bit of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data.check import check
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.data.statistics import Counter
from recsys.errors import InputError
from tests import wide


def fingerprint(encoder: Encoder) -> dict[str, object]:
    """Everything that was fitted or encoded, as bytes."""
    made: dict[str, object] = {
        name: (id_map.ids.to_pylist(), id_map.counts.tobytes(), id_map.capacity)
        for name, id_map in encoder.maps.items()
    }
    made |= {f"scaler {name}": np.array([s.mean, s.std]).tobytes() for name, s in encoder.scalers.items()}
    for name, side in (("users", encoder.users), ("items", encoder.items)):
        multi = [(column.values.tobytes(), column.offsets.tobytes()) for column in side.multi]
        made[f"side {name}"] = (side.single.tobytes(), side.dense.tobytes(), multi)
    return made


def rewrite(path: Path, split: str, change: Callable[[dict[str, list[Any]]], None]) -> None:
    for file in split_files(path, split):
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        columns = table.to_pydict()
        change(columns)
        pq.write_table(pa.table(columns, schema=table.schema), file)


def from_the_future(columns: dict[str, list[Any]]) -> None:
    """Other labels, ids, histories, categories, and extreme numbers."""
    n = len(columns["label"])
    columns["label"] = [1 - label for label in columns["label"]]
    columns["item_id"] = ["item 03"] * n
    columns["user_id"] = ["someone new"] * n
    columns["history"] = [["item 03"] * len(each) for each in columns["history"]]
    columns["device"] = ["a device of tomorrow"] * n
    columns["tags"] = [["tomorrow"]] * n
    columns["price"] = [1e12] * n


@pytest.mark.parametrize("integers", [False, True])
def test_maps_counts_and_scalers_are_those_of_plain_python(tmp_path: Path, integers: bool) -> None:
    config = wide.config(wide.write(tmp_path / "data", integers=integers), tmp_path / "run")
    encoder, slow = fit(config), wide.Slow(config)
    assert encoder.maps.keys() == slow.maps.keys() and encoder.scalers.keys() == slow.scales.keys()
    for name, id_map in encoder.maps.items():
        assert id_map.ids.to_pylist() == sorted(slow.counts[name])
        assert id_map.counts.tolist() == [slow.counts[name][x] for x in sorted(slow.counts[name])]
    for name, scaler in encoder.scalers.items():
        assert (scaler.mean, scaler.std) == pytest.approx(slow.scales[name], rel=1e-9)


def test_a_planted_future_changes_nothing(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    config = wide.config(path, tmp_path / "run")
    before = fingerprint(fit(config))
    for split in ("valid", "test"):
        rewrite(path, split, from_the_future)
    assert fingerprint(fit(config)) == before
    # The same rows in train do change it: the planted values are visible where they may be seen.
    rewrite(path, "train", from_the_future)
    after = fingerprint(fit(config))
    assert {name for name in before if after[name] != before[name]} >= {
        "item_id", "user_id", "device", "tags", "genres", "scaler price", "scaler year"
    }  # fmt: skip


def test_users_and_items_without_training_rows_do_not_count(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    config = wide.config(path, tmp_path / "run")
    before = fit(config)
    for name, column in (("items", "year"), ("users", "age")):
        table = pq.read_table(path / f"{name}.parquet")
        seen = set(before.maps["item_id" if name == "items" else "user_id"].ids.to_pylist())
        values = table.to_pydict()
        strange = [k for k, x in enumerate(table[0].to_pylist()) if x not in seen]
        values[table.column_names[0]].append("nobody asked for")
        for each in table.column_names[1:]:
            values[each].append(values[each][0])
        for k in [*strange, -1]:
            values[column][k] = 1e9
            if name == "items":
                values["genres"][k] = ["never trained"]
        pq.write_table(pa.table(values, schema=table.schema), path / f"{name}.parquet")
    after = fit(config)
    assert after.scalers == before.scalers
    assert after.maps["genres"].ids.equals(before.maps["genres"].ids)
    assert after.items.index.rows(pa.array(["nobody asked for"])).tolist() == [31], "yet it can be scored"


def test_spare_rows_and_declared_capacities(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")

    def capacities(**changes: object) -> dict[str, int]:
        spec = fit(wide.config(path, tmp_path / "run", **changes)).spec
        return {table.name: table.capacity for table in [spec.item, *spec.single, *spec.multi]}

    model = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "spare": 2.0}
    assert capacities(model=model)["item_id"] == 1 + 26 + 52
    declared = [dict(each, capacity=77) if each["name"] == "tags" else each for each in wide.FEATURES]
    found = capacities(features=declared, item_capacity=500)
    assert found["tags"] == 77 and found["item_id"] == 500 and found["gender"] == 1 + 2 + 8


def test_a_capacity_that_is_too_small_is_refused_by_name(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    with pytest.raises(InputError, match=r"item_id: capacity 26 is too small: .* at least 27"):
        fit(wide.config(path, tmp_path / "run", item_capacity=26))
    small = [dict(each, capacity=3) if each["name"] == "tags" else each for each in wide.FEATURES]
    with pytest.raises(InputError, match=r"tags: capacity 3 is too small"):
        fit(wide.config(path, tmp_path / "run", features=small))


def test_counting_in_many_parts_is_counting_at_once() -> None:
    order = np.random.default_rng(0)
    counter, plain = Counter(), dict[str, int]()
    for _ in range(300):
        values = [None if k == 0 else f"v{k}" for k in order.integers(0, 20, 7)]
        counter.add(pa.array(values, pa.string()))
        for value in values:
            if value is not None:
                plain[value] = plain.get(value, 0) + 1
    values_, counts = counter.result()
    assert dict(zip(values_.to_pylist(), counts.tolist(), strict=True)) == plain


def recoded(table: pa.Table) -> pa.Table:
    """As pandas may write it: strings as categoricals (a dictionary for each ten rows), lists large."""
    columns = []
    for column in table:
        if pa.types.is_string(column.type):
            pieces = [column.slice(k, 10).combine_chunks().dictionary_encode() for k in range(0, len(column), 10)]
            column = pa.chunked_array(pieces, pa.dictionary(pa.int32(), pa.string()))
        elif pa.types.is_list(column.type):
            column = column.cast(pa.large_list(column.type.value_type))
        columns.append(column)
    return pa.table(columns, names=table.column_names)


def test_categoricals_and_large_lists_are_read_like_plain_columns(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    config = wide.config(path, tmp_path / "run", data={"path": str(path), "history": 6})
    before, batches = fingerprint(fit(config)), list(Reader(fit(config), "test", batch_size=16).epoch())
    for file in [path / "users.parquet", path / "items.parquet", *path.rglob("part-*.parquet")]:
        with pq.ParquetFile(file) as opened:
            table, rows = opened.read(), opened.metadata.row_group(0).num_rows
        pq.write_table(recoded(table), file, row_group_size=rows)
    kinds = pq.read_schema(split_files(path, "train")[0])
    assert pa.types.is_dictionary(kinds.field("item_id").type) and pa.types.is_large_list(kinds.field("tags").type)
    check(config)
    assert fingerprint(fit(config)) == before
    for one, other in zip(batches, Reader(fit(config), "test", batch_size=16).epoch(), strict=True):
        assert list(wide.taken_apart(one)) == list(wide.taken_apart(other))


def test_large_integers_are_numbers(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    for name in ("users", "items"):
        file, column = path / f"{name}.parquet", "age" if name == "users" else "year"
        table = pq.read_table(file)
        large = pa.array([2**53 + 1 + k for k in range(table.num_rows)], pa.int64())
        pq.write_table(table.set_column(table.column_names.index(column), column, large), file)
    encoder = fit(wide.config(path, tmp_path / "run"))
    assert encoder.scalers["age"].mean == pytest.approx(2**53, rel=1e-9)
    assert np.isfinite(encoder.users.dense).all()


def test_a_column_without_a_value_in_training_still_scores(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")

    def empty(columns: dict[str, list[Any]]) -> None:
        n = len(columns["label"])
        columns["device"], columns["tags"], columns["price"] = [None] * n, [[]] * n, [None] * n

    rewrite(path, "train", empty)
    config: Config = wide.config(path, tmp_path / "run")
    encoder = fit(config)
    assert len(encoder.maps["device"].ids) == len(encoder.maps["tags"].ids) == 0
    assert encoder.scalers["price"].mean == 0 and encoder.scalers["price"].std == 1
    encoder.save(tmp_path / "run" / "encoder")
    loaded = Encoder.load(config, tmp_path / "run" / "encoder")
    with pq.ParquetFile(split_files(path, "test")[0]) as file:
        block = loaded.encode(file.read(), 0)
    assert (block.single[:, -1] == 0).all() and np.isfinite(block.dense).all()
