"""An item's history against what was put into a run by hand."""

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys import settings
from recsys.coldrows.learned import About, Learned
from recsys.config import Tables
from recsys.config_lifecycle import Stage
from recsys.data.schema import split_files
from recsys.errors import InputError
from recsys.explain.history import history
from recsys.tables.admit import admit
from tests import arrived, tiny
from tests.simulator import simulations
from tools import explain

NEW, OLD = arrived.NEW[1].as_py(), "item 03"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with its export, a simulation, rows read off 2 rows of feedback, proxies, and one item admitted."""
    folder = tmp_path_factory.mktemp("explain")
    simulations.make(folder)
    before = Path.cwd()
    os.chdir(folder)
    pq.write_table(pa.table({"item_id": [NEW]}), "new.parquet")
    admit(replace(simulations.config(), tables=Tables(start="unknown")), Path("new.parquet"))
    about = About(key="", base="", found={}, seconds=0.0)
    Learned(arrived.NEW, torch.zeros(len(arrived.NEW), 8), about).save(Path("run/prompt/summary/n=2"))
    stages = [Stage(rows=0, source="start"), Stage(rows=3, source="read")]
    about = replace(about, found={"stages": [asdict(stage) for stage in stages]})
    for exposure in (1, 2):
        folder_of = Path(f"run/lifecycle/road/n={exposure}")
        folder_of.mkdir(parents=True)
        Learned(arrived.NEW, torch.zeros(len(arrived.NEW), 8), about).save(folder_of)
    walked = {"item_id": [NEW], "user_id": ["u07"], "timestamp": [9], "label": [1], "rank": [1]}
    Path("run/lifecycle/road/replay").mkdir()
    pq.write_table(pa.table(walked), "run/lifecycle/road/replay/feedback.parquet")
    vectors = Path("run/proxy/vectors")
    vectors.mkdir(parents=True)
    (vectors / "about.json").write_text('{"encoder": {"name": "minilm", "train": "frozen", "template": "{title}"}}')
    pq.write_table(pa.table({"item_id": [NEW], "vector": [[0.5] * 8]}), vectors / "coarse.parquet")
    digests = pa.table({"item_id": [NEW], "digest": pa.array([bytes(range(16))], pa.binary(16))})
    pq.write_table(digests, vectors / "content.parquet")
    yield folder
    os.chdir(before)


def told(item: str) -> dict[str, list[str]]:
    return {chapter.title: chapter.lines for chapter in history(simulations.config(), item)}


def test_a_new_item(home: Path) -> None:
    found = told(NEW)
    assert f"title: {NEW}" in found["content"] and "held out as new" in found["content"]
    assert found["row"] == [f"row {tiny.ITEMS - tiny.NEW + 1} of 33", "admitted after training"]
    [proxy] = found["vectors"]
    assert proxy.endswith(f"by minilm (frozen) from '{{title}}', content digest {bytes(range(16)).hex()}")
    assert "item_id row 27 by admit" in found["deltas"][0] and found["deltas"][0].startswith("delta 1, ")
    assert [line.rpartition(": ")[2] for line in found["deltas"][1:]] == ["delta 1, holds them"] * 2


def test_its_simulated_users_are_those_of_the_file_surest_first(home: Path) -> None:
    rows = pq.read_table("run/simulator/simulated/simulated.parquet").to_pylist()
    own = [row for row in rows if row["item_id"] == NEW]
    asked = sorted((row for row in own if row["yes"] is not None), key=lambda row: -row["yes"])
    first, *lines = told(NEW)["simulated users"]
    assert f"12 candidates, {sum(row['qualified'] for row in own)} qualified" in first
    assert [line.split()[1].strip(":") for line in lines] == [row["user_id"] for row in asked[:5]]


def test_its_feedback_is_what_the_exposure_kept(home: Path) -> None:
    rows = pq.read_table(split_files("data", "feedback")[0]).to_pylist()
    kept = sorted((row for row in rows if row["item_id"] == NEW and row["rank"] <= 2), key=lambda row: row["rank"])
    first, *lines = told(NEW)["feedback"]
    assert first.startswith("prompt/summary/n=2, ") and first.endswith("read off 2 rows")
    assert lines[:2] == [f"  user {row['user_id']}: label {row['label']}, second {row['timestamp']}" for row in kept]


def test_the_lifecycle_tells_what_it_made_its_row_from(home: Path) -> None:
    rows = pq.read_table(split_files("data", "feedback")[0]).to_pylist()
    kept = sorted((row for row in rows if row["item_id"] == NEW), key=lambda row: row["rank"])[:2]
    lines = [f"  user {row['user_id']}: label {row['label']}, second {row['timestamp']}" for row in kept]
    found = told(NEW)["feedback"][1 + len(lines) :]
    assert found[0].startswith("lifecycle/road/n=1, ") and found[0].endswith(": 50% start and 50% read from 1 rows")
    assert found[1] == lines[0]
    assert found[2].startswith("lifecycle/road/n=2, ") and found[2].endswith(": 21% start and 79% read from 2 rows")
    assert found[3:5] == lines
    assert found[5].startswith("lifecycle/road/replay, ") and found[5].endswith(": walked along the first 1 test rows")
    assert found[6:] == ["  user u07: label 1, second 9"]


def test_its_scores_are_those_of_its_test_rows(home: Path) -> None:
    tables = [pq.read_table(file, columns=["item_id"]) for file in split_files("data", "test")]
    items = pa.concat_tables(tables)["item_id"].to_pylist()
    scores = pq.read_table("run/scores/test").sort_by("row_id")["score"].to_pylist()
    expected = [score for score, item in zip(scores, items, strict=True) if item == NEW][:5]
    [line] = [line for line in told(NEW)["scores"] if line.startswith("scores/test: ")]
    assert line == "scores/test: " + " ".join(f"{score:.4f}" for score in expected)


def test_what_is_absent_is_said(home: Path) -> None:
    found = told(OLD)
    assert found["row"][1].endswith(" training rows")
    assert found["vectors"] == [
        "no proxy in run/proxy/vectors: it had no content that the encoder reads, or came later"
    ]
    assert found["simulated users"] == ["simulated: not among its items"]
    assert found["feedback"] == [
        "prompt/summary/n=2: not among its items",
        "lifecycle/road/n=1: not among its items",
        "lifecycle/road/n=2: not among its items",
        "lifecycle/road/replay: not among its items",
    ]
    assert found["deltas"][0] == "none in the log has changed its rows"
    assert told(arrived.NEW[0].as_py())["row"] == ["none of its own: it is scored by the unknown row, 0"]


def test_the_command_names_the_nearest_of_an_unknown_item(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.dump(simulations.config(), Path("given.yaml"))
    explain.main(["given.yaml", OLD, "run=elsewhere"])
    out = capsys.readouterr().out
    assert "\nrow\n  elsewhere: no trained run there\n" in out and "elsewhere/proxy/vectors: no content proxies" in out
    with pytest.raises(InputError, match=r"no item 'item 3'; the nearest are 'item 23', 'item 13', 'item 03'$"):
        explain.main(["given.yaml", "item 3"])
