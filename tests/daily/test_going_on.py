"""A daily run on a log that goes on: what may change, what is refused, days that lack rows, and tools of the day."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import distributed
from recsys.config import Config
from recsys.daily.loop import FILE, daily
from recsys.daily.report import markdown
from recsys.data.ids import IdMap
from recsys.data.schema import split_files
from recsys.distributed import Ranks, long_on_first, process_group
from recsys.errors import InputError
from recsys.settings import load
from recsys.tables import checkpoint
from tests.daily import logs
from tests.ranks import run_ranks


def go(configs: Sequence[Config]) -> list[str]:
    """What each is refused for, if it is."""
    with process_group() as ranks:
        return [_refusal(config, ranks) for config in configs]


def _refusal(config: Config, ranks: Ranks) -> str:
    try:
        daily(config, ranks)
    except InputError as error:
        return str(error)
    return ""


def told(config: Config) -> dict[str, Any]:
    return dict(json.loads((Path(config.run) / FILE).read_text()))


def trained(config: Config) -> list[str]:
    """Runs that have checkpoints."""
    return sorted(folder.parent.name for folder in Path(config.run).glob("*/checkpoints"))


def add(path: Path, day: int, rows: Sequence[tuple[str, int, int]]) -> None:
    """A file of rows (item, second of the day, label)."""
    table = {
        "user_id": ["u1"] * len(rows),
        "item_id": [item for item, _, _ in rows],
        "timestamp": [day * logs.DAY + second for _, second, _ in rows],
        "label": pa.array([label for *_, label in rows], pa.int8()),
        "device": ["d0"] * len(rows),
    }
    pq.write_table(pa.table(table), path / f"more-{day}-{len(list(path.iterdir()))}.parquet")


def test_days_to_come_may_be_trained_otherwise_and_days_that_are_done_stay(tmp_path: Path) -> None:
    logs.write(tmp_path / "log", days=2)
    first = logs.config(tmp_path, "run", daily={"base": 1, "never": False, "keep": 1})
    assert run_ranks(1, go, [first]) == [[""]]
    done = told(first)["days"]
    logs.write(tmp_path / "log", days=3)
    asked = {"base": 1, "never": False, "keep": 1, "anew": 1, "epochs": 2, "rate": 0.5, "replay": 0.01}
    then = logs.config(tmp_path, "run", daily=asked)
    assert run_ranks(1, go, [then]) == [[""]]
    assert told(then)["complete"] and told(then)["days"][:1] == done
    rates = [load(tmp_path / "run" / name / "config.yaml").train for name in ("day-00001", "day-00002")]
    assert [(rate.lr, rate.epochs) for rate in rates] == [(0.01, 1), (0.005, 2)]
    assert "trained anew" in told(then)["days"][1]["ahead"]["all"], "trained now, although it was not asked for then"
    assert trained(then) == ["anew-00002", "day-00000", "day-00002"]


def test_a_past_or_a_config_that_has_changed_is_refused_by_name(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log", days=3)
    made = logs.config(tmp_path, "run", daily={"base": 1, "days": 1, "last": False, "never": False})
    assert run_ranks(1, go, [made]) == [[""]]
    assert [day["day"] for day in told(made)["days"]] == [1]
    wider = logs.config(tmp_path, "run", daily={"base": 1, "days": 1}, model={"dim": 4})
    refused = run_ranks(1, go, [wider])[0][0]
    assert "this run was begun with model." in refused

    add(log, 2, [("i00", 5, 1)])
    assert run_ranks(1, go, [made]) == [[""]], "a day that is left out may grow"
    add(log, 1, [("i00", 80000, 1)])
    refused = run_ranks(1, go, [made])[0][0]
    assert "day-00001 has other rows" in refused and "remove day-00001 and the runs after it" in refused
    add(log, 0, [("i00", 80000, 1)])
    assert "day-00000 has other rows" in run_ranks(1, go, [made])[0][0]
    for file in log.glob("more-[01]*"):
        file.unlink()
    assert run_ranks(1, go, [made]) == [[""]]
    other = replace(made, data=replace(made.data, history=4))
    assert "day-00000 had other columns" in run_ranks(1, go, [other])[0][0]


def test_a_day_that_lacks_rows_is_scored_and_not_trained_on(tmp_path: Path) -> None:
    log = logs.write(tmp_path / "log", days=1)
    add(log, 1, [("i03", 5, 1), ("i04", 6, 0)])
    logs.write(tmp_path / "more", days=3)
    (tmp_path / "more" / "day-2.parquet").rename(log / "day-2.parquet")
    made = logs.config(tmp_path, "run", daily={"base": 1, "replay": 0.5})
    assert run_ranks(1, go, [made]) == [[""]]
    thin, next_day = told(made)["days"]
    assert thin["lacks"].startswith(("no rows in", "one label only in")) and thin["trained"] is None
    assert thin["ahead"]["all"]["rows"] == 2
    assert next_day["from"] == thin["from"] and next_day["trained"]
    assert "| 1 | not trained on: " in markdown(told(made))


def test_tools_of_the_day_change_what_it_is_scored_by(tmp_path: Path) -> None:
    logs.write(tmp_path / "log", days=2)
    pq.write_table(pa.table({"item_id": ["i04"]}), tmp_path / "gone.parquet")
    tools = {"arrive": [f"admit {{config}} --evict {tmp_path / 'gone.parquet'}"], "follow": ["delta {config}"]}
    made = logs.config(tmp_path, "run", daily={"base": 1, **tools})
    assert run_ranks(1, go, [made]) == [[""]]
    run = tmp_path / "run" / "day-00001"
    said = (run / "daily" / "tools.log").read_text()
    assert f"$ python -m tools.delta {run}/config.yaml" in said
    assert f"{checkpoint.latest(run / 'checkpoints')}: up to 1" in said

    # The day begins with the weights of the first model, and its new ids as unknown ones: but for new devices, only
    # what the tool has changed can make scores differ.
    devices = set(IdMap.load(tmp_path / "run" / "day-00000" / "encoder" / "device.parquet").ids.to_pylist())
    touched, apart = [], []
    for split in ("train", "valid", "test"):
        files = split_files(tmp_path / "days" / "day-00001", split)
        rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
        systems = [pq.read_table(run / "scores" / "ahead" / name / split) for name in ("continued", "never-updated")]
        ours, never = (table.sort_by("row_id")["score"].to_numpy() for table in systems)
        known = np.array([row["device"] in devices for row in rows])
        touched += np.array(["i04" in (row["item_id"], *row["history"]) for row in rows])[known].tolist()
        apart += (ours != never)[known].tolist()
    assert apart == touched and 0 < sum(touched) < len(touched)


def wait_longer_than_the_group_does(seconds: float) -> str:
    pytest.MonkeyPatch().setattr(distributed, "_TIMEOUT", timedelta(seconds=seconds / 2))
    with process_group() as ranks:
        long_on_first(ranks, "a sleep", lambda: time.sleep(seconds))
        return "woken"


def test_long_work_of_the_first_rank_outlasts_the_time_out_of_the_group() -> None:
    assert run_ranks(2, wait_longer_than_the_group_does, 6.0) == ["woken", "woken"]
