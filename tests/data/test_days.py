"""Days of a log as datasets: what one holds is of it and the days before alone, and a grown log adds to them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Files
from recsys.data import days, schema
from recsys.data.compose import compose
from recsys.errors import InputError
from tests.daily import logs

Rows = list[dict[str, Any]]


def rows(path: Path, *splits: str) -> Rows:
    """Of the splits of a dataset directory."""
    files = [file for split in splits or schema.SPLITS for file in schema.split_files(path, split)]
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["user_id"], row["item_id"], row["timestamp"], row["label"]


def files(path: Path) -> dict[str, bytes]:
    """All of a directory but where it is from."""
    found = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.parquet")}
    return found | {"fingerprint": schema.read_info(path).fingerprint.encode()}


def test_every_row_is_in_its_day_once_with_its_users_past(tmp_path: Path) -> None:
    logs.write(tmp_path / "log")
    made = days.prepare(logs.config(tmp_path, "run").data)
    assert [day.number for day in made] == [0, 1, 2, 3]
    raw = pq.read_table(tmp_path / "log").to_pylist()
    trained = [row for day in made for row in rows(day.path, "train")]
    for day in made:
        found = rows(day.path)
        wanted = [row for row in raw if row["timestamp"] // logs.DAY == day.number]
        assert sorted(map(key, found)) == sorted(map(key, wanted))
        items = set(pq.read_table(day.path / schema.ITEMS)["item_id"].to_pylist())
        assert items == {row["item_id"] for row in raw if row["timestamp"] // logs.DAY <= day.number}
        for row in found:
            past = [r for r in trained if r["user_id"] == row["user_id"] and r["timestamp"] < row["timestamp"]]
            assert row["history_count"] == len(past)
            newest = sorted(past, key=lambda r: r["timestamp"])[-5:]
            assert sorted(row["history"]) == sorted(r["item_id"] for r in newest)


def test_what_comes_later_changes_no_day_before_it(tmp_path: Path) -> None:
    logs.write(tmp_path / "log")
    data = logs.config(tmp_path, "run").data
    whole = {day.name: files(day.path) for day in days.prepare(data)}
    other = logs.config(tmp_path, "run", log="planted", days="others").data
    shutil.copytree(tmp_path / "log", tmp_path / "planted")
    for day in (2, 3):
        path = tmp_path / "planted" / f"day-{day}.parquet"
        table = pq.read_table(path)
        spoilt = pa.array(1 - table["label"].to_numpy()), pa.array([f"new {k}" for k in range(len(table))])
        table = table.set_column(3, "label", spoilt[0]).set_column(1, "item_id", spoilt[1])
        pq.write_table(table, path)
    found = {day.name: files(day.path) for day in days.prepare(other)}
    assert all(found[name] == whole[name] for name in ("day-00000", "day-00001"))
    assert found["day-00002"] != whole["day-00002"]

    # A log that grows leaves its days as they are; one whose past has changed makes the days after that anew.
    (tmp_path / "planted" / "day-3.parquet").unlink()
    shutil.rmtree(tmp_path / "others")
    days.prepare(other)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "others").rglob("part-*")}
    shutil.copy(tmp_path / "log" / "day-3.parquet", tmp_path / "planted" / "day-3.parquet")
    assert [day.number for day in days.prepare(other)] == [0, 1, 2, 3]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    shutil.copy(tmp_path / "log" / "day-2.parquet", tmp_path / "planted" / "day-2.parquet")
    assert {day.name: files(day.path) for day in days.prepare(other)} == whole


def test_a_log_that_grows_past_day_10_leaves_its_days_as_they_are(tmp_path: Path) -> None:
    logs.write(tmp_path / "whole", days=11)
    (tmp_path / "log").mkdir()
    for day in range(10):
        shutil.copy(tmp_path / "whole" / f"day-{day}.parquet", tmp_path / "log")
    data = logs.config(tmp_path, "run").data
    before = {day.name: files(day.path) for day in days.prepare(data)}
    shutil.copy(tmp_path / "whole" / "day-10.parquet", tmp_path / "log")
    assert sorted((tmp_path / "log").iterdir())[2].name == "day-10.parquet", "read before days 2 to 9"
    after = days.prepare(data)
    assert len(after) == 11 and {day.name: files(day.path) for day in after[:-1]} == before
    shutil.rmtree(tmp_path / "days")
    assert days.prepare(data) == after


def test_features_are_those_of_the_day_and_their_types_are_of_all(tmp_path: Path) -> None:
    logs.write(tmp_path / "log", days=2)
    made = logs.config(tmp_path, "run").data
    source = replace(made.source, items=Files(path=str(tmp_path / "items.parquet")))
    data = replace(made, source=source)

    def tell(price: float | str) -> None:
        names = [f"i{k:02d}" for k in range(40)]
        pq.write_table(pa.table({"item_id": names, "price": [price] * 40}), tmp_path / "items.parquet")

    def prices(day: days.Day) -> set[Any]:
        return set(pq.read_table(day.path / schema.ITEMS)["price"].to_pylist())

    tell(1.0)
    first = days.prepare(data)
    tell(2.0)
    logs.write(tmp_path / "log", days=3)
    then = days.prepare(data)
    assert then[:2] == first and [prices(day) for day in then] == [{1.0}, {1.0}, {2.0}]
    tell("dear")
    other = days.prepare(data)
    assert [prices(day) for day in other] == [{"dear"}] * 3
    assert not {day.settings for day in other} & {day.settings for day in then}


def test_a_day_lacks_what_training_needs(tmp_path: Path) -> None:
    logs.write(tmp_path / "log", days=2)
    day = days.prepare(logs.config(tmp_path, "run").data)[1].path
    assert days.lacking(day) == ""
    file = schema.split_files(day, "valid")[0]
    with pq.ParquetFile(file) as opened:
        table = opened.read()
    pq.write_table(table.filter(table["label"].to_numpy() == 1), file)
    assert days.lacking(day) == "one label only in split=valid"
    file.unlink()
    assert days.lacking(day) == "no rows in split=valid"
    assert compose(tmp_path / "one", [day], share=0.5).counts == schema.read_info(day).counts
    shutil.rmtree(day / "interactions" / "split=train")
    schema.write_info(replace(schema.read_info(day), counts={"test": 3}), day)
    assert "train" not in compose(tmp_path / "two", [day], [day], share=0.5).counts


def test_drawn_labels_and_a_folder_of_others_are_refused(tmp_path: Path) -> None:
    logs.write(tmp_path / "log")
    made = logs.config(tmp_path, "run")
    tree: dict[str, Any] = {"path": str(tmp_path / "days"), "label": {"rule": "observed"}}
    with pytest.raises(InputError, match=r"data.label.rule=observed: expected the rule daily"):
        days.prepare(logs.config(tmp_path, "run", data={**tree, "split": {"rule": "daily"}}).data)
    (tmp_path / "days").mkdir()
    (tmp_path / "days" / "mine.txt").touch()
    with pytest.raises(InputError, match=r"holds files but no days.json"):
        days.prepare(made.data)


def test_days_together_are_their_rows_and_a_draw_of_older_ones(tmp_path: Path) -> None:
    logs.write(tmp_path / "log")
    first, second, third, fourth = (day.path for day in days.prepare(logs.config(tmp_path, "run").data))
    info = compose(tmp_path / "two", [second, third])
    for split in ("train", "valid", "test"):
        assert rows(tmp_path / "two", split) == rows(second, split) + rows(third, split)
        assert info.counts[split] == len(rows(tmp_path / "two", split))
    part = schema.split_files(tmp_path / "two", "train")[0]
    assert part.samefile(schema.split_files(second, "train")[0]), "no copy"

    more = compose(tmp_path / "more", [fourth], [first, second], share=0.5, seed=3)
    own, found = rows(fourth, "train"), rows(tmp_path / "more", "train")
    assert found[: len(own)] == own and len(found) == more.counts["train"] == len(own) + round(0.5 * len(own))
    older = rows(first, "train") + rows(second, "train")
    places = [older.index(row) for row in found[len(own) :]]
    assert len(set(places)) == len(places), "each once"
    assert 0.2 < np.mean(np.array(places) < len(rows(first, "train"))) < 0.8, "of all of them"
    assert rows(tmp_path / "more", "test") == rows(fourth, "test")
    none = compose(tmp_path / "none", [fourth], [first], share=1e-6)
    assert none.counts["train"] == len(own), "a share of no rows"
    assert compose(tmp_path / "more", [fourth], [first, second], share=0.5, seed=3) == more
    with pytest.raises(InputError, match="made of other days"):
        compose(tmp_path / "more", [fourth], [first, second], share=0.5, seed=4)
