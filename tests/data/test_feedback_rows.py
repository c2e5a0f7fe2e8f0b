"""What feedback is remembered of a dataset's files, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.feedback import Feedback
from recsys.data.feedback_rows import Entities, read
from recsys.data.schema import split_files, write_settings
from recsys.errors import InputError
from tests import arrived


def found(data: Path, exposure: int, *more: Path) -> Feedback:
    return read(data, exposure, Entities.read(data), 0, more)


def events(feedback: Feedback) -> int:
    return len(feedback.positive.user) + len(feedback.negative.user)


def test_kept_rows_come_by_rank_and_a_file_as_a_whole(tmp_path: Path) -> None:
    data = arrived.write(tmp_path) / "data"
    assert [events(found(data, n)) for n in (0, 2, 5)] == [203, 203 + 2 * 4, 203 + 5 * 4]
    kept = pq.read_table(split_files(data, "feedback")[0])
    pq.write_table(kept.filter(pa.compute.less_equal(kept["rank"], 2)).drop_columns("rank"), tmp_path / "more.parquet")
    one, other = found(data, 2), found(data, 0, tmp_path / "more.parquet")
    for kind in ("positive", "negative"):
        for name, column in vars(getattr(one, kind)).items():
            assert np.array_equal(vars(getattr(other, kind))[name], column), (kind, name)


def test_items_without_a_record_have_feedback_once_they_are_named(tmp_path: Path) -> None:
    data = arrived.write(tmp_path) / "data"
    rows = pq.read_table(split_files(data, "train")[0])[:6]
    ids = pa.array(["item 98", "item 99"] * 3)
    path = tmp_path / "more.parquet"
    pq.write_table(rows.set_column(rows.column_names.index("item_id"), "item_id", ids), path)
    entities = Entities.read(data)
    named = entities.with_items(pa.array(["item 00", "item 99"]))
    items = len(entities.items.ids)
    assert named.item(pa.array(["item 00", "item 98", "item 99"])).tolist() == [0, -1, items]
    assert events(read(data, 0, entities, 0, [path])) == 203 and events(read(data, 0, named, 0, [path])) == 203 + 3
    assert len(read(data, 0, named, 0, [path]).positive.start) == items + 2


def test_seconds_are_integers(tmp_path: Path) -> None:
    data = arrived.write(tmp_path) / "data"
    rows = pq.read_table(split_files(data, "train")[0])[:6]
    times = rows["timestamp"].cast(pa.timestamp("us"))
    path = tmp_path / "more.parquet"
    pq.write_table(rows.set_column(rows.column_names.index("timestamp"), "timestamp", times), path)
    with pytest.raises(InputError) as error:
        found(data, 0, path)
    told = f"{path}: row group 0: column 'timestamp': expected seconds as integers, found timestamp[us]"
    assert str(error.value) == told


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize(("split", "group"), [("train", 2), ("feedback", 0)])
def test_feedback_whose_value_is_not_finite_is_refused(value: float, split: str, group: int, tmp_path: Path) -> None:
    data = arrived.write(tmp_path) / "data"
    path, at = split_files(data, split)[0], 20 if split == "train" else 0
    table = pq.ParquetFile(path).read()
    values = table["value"].to_pylist()
    values[at : at + 3] = [1.0, None, value]
    place = table.column_names.index("value")
    pq.write_table(table.set_column(place, "value", pa.array(values, pa.float32())), path, row_group_size=10)
    with pytest.raises(InputError) as error:
        found(data, 2)
    told = f"row group {group}: column 'value': row 2: expected a finite number or null, found {value}"
    assert str(error.value) == f"{path}: {told}"


def test_a_dataset_that_keeps_too_few_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exposure 6: expected 0 to 5, the rows kept of each new item"):
        found(arrived.write(tmp_path) / "data", 6)


def test_drawn_rows_are_nobodys_feedback(tmp_path: Path) -> None:
    data = arrived.write(tmp_path) / "data"
    assert len(found(data, 2).negative.user)
    made = arrived.config(tmp_path)
    write_settings(replace(made.data, label=replace(made.data.label, rule="observed")), data)
    observed = found(data, 2)
    assert not len(observed.negative.user) and len(observed.positive.user)
