"""A model that goes on day by day: killed and resumed as if nothing had happened, blind to later days, true to ids."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recsys.config import Config
from recsys.daily.loop import FILE, daily
from recsys.daily.report import markdown
from recsys.data.ids import IdMap
from recsys.data.schema import read_info, split_files
from recsys.distributed import process_group
from recsys.tables import checkpoint
from tests.daily import logs
from tests.ranks import RanksFailed, run_ranks


def go(config: Config) -> None:
    with process_group() as ranks:
        daily(config, ranks)


def go_until(config: Config, day: int, stage: str, when: str) -> None:
    """Die by SIGKILL before or after a stage's file is there."""
    original = os.replace
    place = Path(config.run) / f"day-{day:05d}" / "daily" / f"{stage}.json"

    def replace(source: Any, target: Any, **rest: Any) -> None:
        if Path(target) == place and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target, **rest)
        if Path(target) == place:
            os.kill(os.getpid(), signal.SIGKILL)

    pytest.MonkeyPatch().setattr(os, "replace", replace)
    go(config)


def told(config: Config) -> dict[str, Any]:
    return dict(json.loads((Path(config.run) / FILE).read_text()))


def ids(config: Config, day: int, table: str = "item_id") -> IdMap:
    return IdMap.load(Path(config.run) / f"day-{day:05d}" / "encoder" / f"{table}.parquet")


def weights(config: Config, day: int) -> dict[str, torch.Tensor]:
    newest = checkpoint.latest(Path(config.run) / f"day-{day:05d}" / "checkpoints")
    assert newest
    return checkpoint.read(newest, list(checkpoint.stored_tensors(newest)))


def scores(config: Config, day: int, system: str = "continued") -> list[float]:
    folder = Path(config.run) / f"day-{day:05d}" / "scores" / "ahead" / system
    found = [pq.read_table(folder / split).sort_by("row_id") for split in ("train", "valid", "test")]
    return [score for table in found for score in table["score"].to_pylist()]


def plain(found: dict[str, Any], home: str) -> Any:
    """Results without what a run draws for its name, and where it is."""
    text = json.dumps(found).replace(home, "")
    for version in {part["trained"]["version"].split("/")[1] for part in found["days"]}:
        text = text.replace(version, "DENSE")
    return json.loads(text)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, and a run through it that nothing interrupts."""
    folder = tmp_path_factory.mktemp("daily")
    logs.write(folder / "log")
    run_ranks(1, go, whole(folder))
    return folder


def whole(home: Path, world: int = 1, run: str = "whole") -> Config:
    """Of two ranks without the model that is trained anew, which they train as one does."""
    daily = {"base": 2, "anew": int(world == 1), "replay": 0.3, "keep": 0}
    return logs.config(home, f"{run} by {world}", daily=daily)


@pytest.mark.parametrize(
    ("world", "day", "stage", "when"),
    [(1, 2, "begun", "before"), (1, 2, "ahead", "after"), (1, 3, "trained", "before"), (2, 3, "begun", "after")],
)
def test_killed_and_resumed_is_as_if_nothing_had_happened(
    home: Path, world: int, day: int, stage: str, when: str
) -> None:
    reference, made = whole(home, world), whole(home, world, f"{world} {day} {stage}")
    if world == 2:
        run_ranks(world, go, reference)
    with pytest.raises(RanksFailed, match=r"\(exit code -9\)"):
        run_ranks(world, go_until, made, day, stage, when)
    if day == 2:
        assert not (Path(made.run) / FILE).exists()
    else:
        assert not told(made)["complete"] and [each["day"] for each in told(made)["days"]] == [2]
    run_ranks(world, go, made)
    assert told(made)["complete"]
    assert plain(told(made), made.run) == plain(told(reference), reference.run)
    for name, tensor in weights(reference, 3).items():
        assert torch.equal(weights(made, 3)[name], tensor), name


def test_a_later_day_changes_no_score_before_it(home: Path, tmp_path: Path) -> None:
    logs.write(tmp_path / "log", days=3)
    planted = logs.write(tmp_path / "planted", days=4, seed=9) / "day-3.parquet"
    planted.rename(tmp_path / "log" / "day-3.parquet")
    run_ranks(1, go, whole(tmp_path))
    assert scores(whole(tmp_path), 2) == scores(whole(home), 2)
    assert scores(whole(tmp_path), 2, "never-updated") == scores(whole(home), 2, "never-updated")
    assert scores(whole(tmp_path), 3) != scores(whole(home), 3)


def test_a_line_of_days_is_one_lineage(home: Path) -> None:
    found = told(whole(home))["days"]
    for day, before in zip(found[1:], found, strict=False):
        assert day["begun"]["version"] == before["trained"]["version"] and day["from"] == before["run"]
    versions = [day["trained"]["version"].split("/") for day in found]
    assert len({(lineage, dense) for lineage, dense, *_ in versions}) == 1
    steps = [int(step) for _, _, step, _ in versions]
    assert steps == sorted(set(steps))
    assert [day["data"] for day in found] == [read_info(home / "days" / f"day-0000{day}").fingerprint for day in (2, 3)]


def test_what_is_told_is_what_was_scored(home: Path) -> None:
    made, found = whole(home), told(whole(home))["days"]
    day = found[1]
    files = [file for split in ("train", "valid", "test") for file in split_files(home / "days" / "day-00003", split)]
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    label, known = np.array([row["label"] for row in rows]), set(ids(made, 2).ids.to_pylist())
    new = np.array([row["item_id"] not in known for row in rows])
    for segment, mask in {"all": new | ~new, "new": new, "old": ~new}.items():
        for name in ("continued", "never updated", "trained anew"):
            score = np.array(scores(made, 3, name.replace(" ", "-")))
            assert day["ahead"][segment][name][0] == pytest.approx(roc_auc_score(label[mask], score[mask]))
        assert day["ahead"][segment]["rows"] == mask.sum() > 0
    assert day["kept"]["all"]["rows"] == read_info(Path(made.run) / "day-00001" / "data").counts["test"]
    assert "trained anew" in day["kept"]["all"] and day["kept"]["gone"]["rows"] < day["kept"]["all"]["rows"]
    text = markdown(told(made))
    assert text.count("\n| 3 | ") == 2 and f"{day['ahead']['all']['continued'][0]:.4f}" in text
