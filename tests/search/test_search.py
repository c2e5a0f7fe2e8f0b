"""The ranker's search by the command: trials, failures, kills, ranks, and rows that nobody may look at."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch.distributed as dist
import yaml

from recsys import journal, settings
from recsys.config import Config
from recsys.data.schema import split_files
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.evaluate.pointwise import evaluate
from recsys.predict import predict
from recsys.search import ranker
from recsys.search import search as module
from recsys.search.search import search
from recsys.tables.locks import training
from recsys.train import train
from recsys.trials.search import Trial
from tests import launched, tiny
from tests.ranks import RanksFailed, run_ranks

SPACE = {"train.lr": {"low": 0.001, "high": 0.1, "log": True}, "model.top": [[16], [8, 4]]}


def write(home: Path, space: Any = SPACE, **asked: Any) -> Config:
    """The tiny dataset, and beside it the config of a search on it in `config.yaml`."""
    tiny.write(home / "data")
    made = tiny.config(home / "data", home / "run", search={"space": space, "trials": 3, **asked})
    settings.dump(made, home / "config.yaml")
    return made


def searched(config: Config) -> list[Trial]:
    with process_group() as ranks:
        search(config, ranks)
    return trials(config)


def trials(config: Config) -> list[Trial]:
    path = Path(config.run) / "search" / "trials.jsonl"
    return [Trial(**entry) for entry in journal.entries(path) if "search" in entry]


def told(found: list[Trial]) -> list[tuple[Any, ...]]:
    return [(trial.key, trial.params, trial.value, trial.failed) for trial in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, list[Trial]]:
    config = write(tmp_path_factory.mktemp("whole"))
    return config, searched(config)


def test_trials_are_runs_that_are_gone_and_the_best_can_be_trained(whole: tuple[Config, list[Trial]]) -> None:
    config, found = whole
    assert found[0].params == {"train.lr": 0.002, "model.top": [16]} and len(found) == 3
    folder = Path(config.run) / "search"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "best.yaml",
        "table.md",
        "trials.jsonl",
    ]
    best = max(found, key=lambda trial: trial.value or 0)
    given = Path(config.run).parent / "config.yaml"
    again = settings.load(given, [str(folder / "best.yaml"), f"run={config.run}/again"])
    assert settings.value_of(settings.plain(again), "train.lr") == best.params["train.lr"]
    with process_group() as ranks:
        assert train(again, ranks).best_auc == best.value
    table = (folder / "table.md").read_text().splitlines()
    assert table[0] == "| trial | AUC | s | train.lr | model.top |"
    assert len(table) == 5 and table[2 + found.index(best)].split(" | ")[1] == f"**{best.value:.4f}**"


def test_killed_and_started_again_it_ends_the_same(whole: tuple[Config, list[Trial]], tmp_path: Path) -> None:
    config, command = write(tmp_path), f"python -m tools.search {tmp_path / 'config.yaml'}"
    log = tmp_path / "log"
    written = tmp_path / "run" / "search" / "trials.jsonl"
    launched.kill(command, log, 25)
    assert 0 < len(trials(config)) < 3
    with written.open("a") as out:
        out.write('\n{"search": "')
    launched.start(f"{command} --trials 3", log)

    def plain(found: list[Trial]) -> list[tuple[Any, ...]]:
        return [(trial.params, trial.value, trial.failed) for trial in found]

    assert plain(trials(config)) == plain(whole[1])
    said = log.read_text()
    # Each trial ended once.
    assert [said.count(f"\n{number}/3: AUC") for number in (1, 2, 3)] == [1, 1, 1]
    assert not list((tmp_path / "run" / "search").glob("trial-*"))
    assert (tmp_path / "run" / "search" / "best.yaml").read_text() == (
        Path(whole[0].run) / "search" / "best.yaml"
    ).read_text()


def test_trials_of_another_space_that_were_killed_go_too(tmp_path: Path) -> None:
    config = write(tmp_path, {"train.lr": [0.002]}, trials=1, keep=True)
    searched(config)
    folder = tmp_path / "run" / "search"
    (kept,) = folder.glob("trial-*")
    kept.rename(folder / "trial-0123456789ab")
    searched(settings.with_values(config, {"search.keep": False}))
    assert not list(folder.glob("trial-*"))


def test_test_rows_are_not_looked_at(whole: tuple[Config, list[Trial]], tmp_path: Path) -> None:
    config = write(tmp_path, trials=2)
    for file in split_files(tmp_path / "data", "test"):
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        flipped = pa.array(1 - table["label"].to_numpy(), pa.int8())
        order = np.random.default_rng(0).permutation(table.num_rows)
        table = table.set_column(table.schema.get_field_index("label"), "label", flipped)
        history = table["history"].take(pa.array(order)), table["history_label"].take(pa.array(order))
        for name, column in zip(("history", "history_label"), history, strict=True):
            table = table.set_column(table.schema.get_field_index(name), name, column)
        pq.write_table(table, file)
    found = searched(config)
    assert [(trial.params, trial.value) for trial in found] == [(trial.params, trial.value) for trial in whole[1][:2]]


def both(config: Config) -> list[tuple[Any, ...]]:
    with process_group() as ranks:
        search(config, ranks)
    return told(trials(config))


def test_two_ranks_train_what_the_first_asks(tmp_path: Path) -> None:
    config = write(tmp_path, {"train.lr": [0.002, 1e30]})
    first, second = run_ranks(2, both, config)
    assert first == second and len(first) == 2  # all that there are
    # A rate of 1e30 diverges: that trial has failed, on both ranks, and the search went on.
    for _, params, value, failed in first:
        assert (value is None) == (params["train.lr"] == 1e30) == ("training diverged" in failed)
    assert "\nTrial " in (tmp_path / "run" / "search" / "table.md").read_text()


def alone(config: Config) -> None:
    """A search whose second trial fails on rank 1 alone, while rank 0 waits for it."""
    begun = iter(range(9))

    def objective(config: Config, ranks: Ranks) -> float:
        if next(begun) and ranks.rank:
            raise InputError("rank 1 alone")
        dist.barrier()
        return 0.5

    ranker.objective = objective
    module.WITHIN = timedelta(seconds=0.5)
    searched(config)


def test_what_fails_on_one_rank_alone_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(RanksFailed, match="rank 1 alone"):
        run_ranks(2, alone, write(tmp_path), timeout=40)
    assert len(trials(tiny.config(tmp_path / "data", tmp_path / "run"))) == 1


@pytest.mark.parametrize(("metric", "name", "number"), [("gauc", "gauc", 1), ("logloss", "logloss", 2)])
def test_other_metrics_are_those_of_evaluation(tmp_path: Path, metric: str, name: str, number: int) -> None:
    config = write(tmp_path, metric=metric, trials=number, keep=True)
    found = searched(config)
    for trial in found:
        run = tmp_path / "run" / "search" / f"trial-{trial.key}"
        made = settings.load(run / "config.yaml")
        with process_group() as ranks:
            predict(made, "valid", ranks)
        judged = evaluate(replace(made, evaluate=config.evaluate), split="valid")
        assert trial.value == pytest.approx(judged["systems"]["base"]["all"][name][0])
    best = (min if metric == "logloss" else max)(found, key=lambda trial: trial.value or 0)
    laid = yaml.safe_load((tmp_path / "run" / "search" / "best.yaml").read_text())
    assert laid["train"]["lr"] == best.params["train.lr"]


def test_a_default_that_cannot_be_trained_ends_the_search(tmp_path: Path) -> None:
    config = write(tmp_path)
    for file in split_files(tmp_path / "data", "valid"):
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        ones = pa.array(np.ones(table.num_rows, np.int8))
        pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", ones), file)
    with pytest.raises(InputError, match="valid"):
        searched(config)
    assert not (tmp_path / "run" / "search" / "trials.jsonl").exists()


def test_two_searches_in_one_run_are_one_too_many(tmp_path: Path) -> None:
    config = write(tmp_path)
    with training(tmp_path / "run" / "search"), pytest.raises(InputError, match="another process"):
        searched(config)
