"""Systems of the floor, searched on new items that are made of training rows and of nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from recsys import journal, settings
from recsys.config import Config
from recsys.data.prepare import prepare
from recsys.data.schema import read_info, split_files
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.search.search import search
from recsys.trials.search import Trial

USERS, ITEMS, ROWS = 60, 40, 4000
KEYS = ["user_id", "item_id", "timestamp", "label"]
SMALL = {
    "features": [{"name": "user_id", "of": "user"}, {"name": "device"}],
    "model": {"dim": 8, "attention": [8], "top": [16], "cross_rank": 4},
    "train": {"batch_size": 256, "epochs": 1},
    "evaluate": {"batch_size": 512},
}


def write(home: Path, system: str, space: dict[str, Any], **asked: Any) -> Config:
    """A dataset prepared from a log in which each item, and each user, is liked in its own measure."""
    random = np.random.default_rng(3)
    user, item = random.integers(0, USERS, ROWS), random.integers(0, ITEMS, ROWS)
    odds = random.normal(size=USERS)[user] + 2 * random.normal(size=ITEMS)[item]
    home.mkdir(parents=True, exist_ok=True)
    log = {
        "user_id": [f"u{k}" for k in user],
        "item_id": item,
        "timestamp": np.arange(ROWS) * 60,
        "label": (random.random(ROWS) < 1 / (1 + np.exp(-odds))).astype(np.int8),
        "device": [("phone", "web")[k % 2] for k in user],
    }
    pq.write_table(pa.table(log), home / "log.parquet")
    vectors = random.normal(size=(ITEMS, 3)).tolist()
    pq.write_table(pa.table({"item_id": np.arange(ITEMS), "vector": vectors}), home / "content.parquet")
    data = {
        "path": str(home / "data"),
        "history": 5,
        "source": {"kind": "files", "interactions": {"path": str(home / "log.parquet")}},
        "label": {"rule": "column"},
        "split": {"new_share": 0.25, "min_rows": 20, "exposures": [0, 2, 5]},
    }
    asked = {"system": system, "space": space, "exposure": 5, **asked}
    floor = {"content": str(home / "content.parquet")}
    config = settings.parse({**SMALL, "run": str(home / "run"), "data": data, "search": asked, "floor": floor})
    prepare(config.data)
    return config


def searched(config: Config) -> list[Trial]:
    with process_group() as ranks:
        folder = search(config, ranks)
    return [Trial(**entry) for entry in journal.entries(folder / "trials.jsonl") if "search" in entry]


def rows(data: Path, *splits: str) -> list[dict[str, Any]]:
    return [row for split in splits for file in split_files(data, split) for row in pq.read_table(file).to_pylist()]


def keys(data: Path, *splits: str) -> set[tuple[Any, ...]]:
    return {tuple(row[key] for key in KEYS) for row in rows(data, *splits)}


def test_means_are_searched_on_training_rows_alone(tmp_path: Path) -> None:
    config = write(tmp_path, "means", {"floor.strength": {"low": 0.1, "high": 1000, "log": True}}, trials=8)
    found = searched(config)
    assert found[0].params == {"floor.strength": 10.0} and len(found) == 8
    inner, outer = tmp_path / "run" / "search" / "data", tmp_path / "data"
    splits = "train", "valid", "test", "feedback"
    assert keys(inner, *splits) <= keys(outer, "train") and read_info(inner).context == ["device"]
    for trial in found[:2]:
        assert trial.value == pytest.approx(by_hand(inner, trial.params["floor.strength"]))
    best = max(found, key=lambda trial: trial.value or 0)
    assert best.value is not None and found[0].value is not None and best.value >= found[0].value
    given = tmp_path / "config.yaml"
    settings.dump(config, given)
    made = settings.load(given, [str(tmp_path / "run" / "search" / "best.yaml")])
    assert made.floor.strength == best.params["floor.strength"]
    assert not list((tmp_path / "run" / "search").glob("base-*/floor/trial-*"))


def by_hand(inner: Path, strength: float) -> float:
    """AUC of the smoothed means of the training rows and of five rows of each new item, on the scored new items."""
    train, test = rows(inner, "train"), rows(inner, "test")
    kept = [row for row in rows(inner, "feedback") if row["rank"] <= 5]
    scored = {row["item_id"] for row in pq.read_table(inner / "held_out.parquet").to_pylist() if row["scored"]}
    rate = float(np.mean([row["label"] for row in train]))

    def log_odds(key: str, value: Any, seen: list[dict[str, Any]]) -> float:
        labels = [row["label"] for row in seen if row[key] == value]
        share = (sum(labels) + strength * rate) / (len(labels) + strength)
        return float(np.log(share / (1 - share)))

    users = {row["user_id"]: log_odds("user_id", row["user_id"], train) for row in test}
    items = {item: log_odds("item_id", item, train + kept) for item in scored}
    judged = [row for row in test if row["item_id"] in scored]
    assert len(scored) > 3 and len(judged) > 100
    return float(
        roc_auc_score(
            [row["label"] for row in judged], [users[row["user_id"]] + items[row["item_id"]] for row in judged]
        )
    )


def test_ridge_and_finetune_are_searched_over_a_base_of_their_own(tmp_path: Path) -> None:
    config = write(tmp_path, "ridge", {"floor.ridge": [0.01, 100.0], "floor.prior": [4.0]}, trials=3, exposure=2)
    found = searched(config)
    assert [trial.params for trial in found[:1]] == [
        {"floor.ridge": config.floor.ridge, "floor.prior": config.floor.prior}
    ]
    assert sorted(trial.params["floor.ridge"] for trial in found[1:]) == [[0.01], [100.0]]
    assert len({trial.value for trial in found}) > 1
    # The ranker that they share is trained and scored once.
    (base,) = (tmp_path / "run" / "search").glob("base-*")
    made = {path: path.stat().st_mtime_ns for part in ("checkpoints", "scores") for path in (base / part).rglob("*")}
    more = searched(settings.with_values(config, {"search.trials": 9}))
    assert made and more == found
    other = {"search.system": "finetune", "search.space": {"floor.prior": [0.01]}, "search.trials": 2}
    *before, first, second = searched(settings.with_values(config, other))
    assert before == found and first.params == {"floor.prior": config.floor.prior} and first.value != second.value
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_base_is_of_the_settings_that_trials_are_known_by(tmp_path: Path) -> None:
    config = write(tmp_path, "means", {"floor.strength": [1.0, 2.0]}, trials=1)
    folder, bases = tmp_path / "run" / "search", []
    # A run goes on with another batch size, and is refused another width.
    for change in ({}, {"train.timeout": 99}, {"train.batch_size": 128}, {"model.dim": 4}):
        changed = settings.with_values(config, change)
        searched(changed)
        (base,) = folder.glob("base*")
        assert settings.load(base / "config.yaml").train.batch_size == changed.train.batch_size
        bases.append(base.name)
    assert bases[0] == bases[1] and len(set(bases)) == 3


def test_a_dataset_without_new_items_is_refused(tmp_path: Path) -> None:
    config = write(tmp_path, "means", {"floor.strength": [1.0]})
    tree = settings.plain(config)
    tree["data"]["split"]["rule"] = "temporal"
    with pytest.raises(InputError, match=r"data\.split\.rule=temporal, .*: expected the rule exposure"):
        searched(settings.parse(tree))
    with pytest.raises(InputError, match="exposure 6"):
        searched(settings.with_values(config, {"search.exposure": 6}))
