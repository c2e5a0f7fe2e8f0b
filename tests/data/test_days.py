"""Days of a log as datasets: what one holds is of it and the days before alone, and a grown log adds to them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
    assert compose(tmp_path / "more", [fourth], [first, second], share=0.5, seed=3) == more
    with pytest.raises(InputError, match="made of other days"):
        compose(tmp_path / "more", [fourth], [first, second], share=0.5, seed=4)
