"""The training loop: it learns what can be learnt, stops when told, logs, and behaves as a command under torchrun."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recsys import settings
from recsys.config import Config
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.errors import InputError, RelayedError
from recsys.tables.checkpoint import Progress
from recsys.tables.locks import training
from recsys.train import train
from tests import tiny
from tests.ranks import run_ranks
from tools import _cli
from tools import train as command

ROOT = Path(__file__).resolve().parent.parent
TRAIN = {"batch_size": 16, "shuffle_rows": 64, "epochs": 1, "hide_ids": 0.0}


def train_all(configs: list[Config]) -> list[Progress]:
    with process_group() as ranks:
        return [train(config, ranks) for config in configs]


def refused(config: Config) -> tuple[str, str]:
    with process_group() as ranks:
        try:
            train(config, ranks)
        except InputError as error:
            return type(error).__name__, str(error)
    return "", ""


def test_a_run_that_another_process_trains_is_refused_on_all_ranks(tmp_path: Path) -> None:
    made = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run", train=TRAIN)
    with training(tmp_path / "run"):
        first, second = run_ranks(2, refused, made)
    assert first == (InputError.__name__, f"{tmp_path / 'run'}: another process trains this run")
    assert second == (RelayedError.__name__, first[1])


def rewrite(path: Path, split: str, change: Callable[[dict[str, list[Any]]], None]) -> None:
    for file in split_files(path, split):
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        columns = table.to_pydict()
        change(columns)
        pq.write_table(pa.table(columns, schema=table.schema), file, row_group_size=10)


def liked_by_parity(columns: dict[str, list[Any]]) -> None:
    columns["label"] = [int(item[-2:]) % 2 for item in columns["item_id"]]


def unlike_training(columns: dict[str, list[Any]]) -> None:
    columns["label"] = [1 - int(item[-2:]) % 2 for item in columns["item_id"]]


def test_it_learns_stops_and_logs(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "data")
    for split in ("train", "valid"):
        rewrite(path, split, liked_by_parity)
    against = tiny.write(tmp_path / "against")
    rewrite(against, "train", liked_by_parity)
    rewrite(against, "valid", unlike_training)
    many = {**TRAIN, "epochs": 9, "table_lr": 0.2, "lr": 0.01}
    configs = [
        tiny.config(path, tmp_path / "learns", train={**many, "patience": 99}),
        # Validation gets worse as training gets better.
        tiny.config(against, tmp_path / "stops", train={**many, "patience": 2, "keep": 1}),
        tiny.config(path, tmp_path / "short", train={**many, "max_steps": 9}),
        tiny.config(path, tmp_path / "half", train={**many, "epochs": 2, "bf16": True}),
    ]
    learns, stops, short, half = run_ranks(1, train_all, configs)[0]
    assert learns.done and learns.step == 9 * 13 and learns.best_auc > 0.95
    assert stops.done and stops.worse == 2 and stops.step < 9 * 13
    assert short.done and short.step == 9
    assert half.done and half.best_auc > 0.5

    events = EventAccumulator(str(tmp_path / "learns" / "logs")).Reload()
    logged = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    assert logged.keys() >= {
        "train/loss", "train/samples_per_second", "train/lr_dense", "train/lr_tables", "valid/auc", "valid/ne"
    }  # fmt: skip
    loss = list(logged["train/loss"].values())
    assert 0.4 < loss[0] < 0.7 and loss[-1] < 0.1
    assert max(logged["valid/auc"].values()) == pytest.approx(learns.best_auc, abs=1e-6)
    assert set(logged["valid/auc"]) == {step for k in range(9) for step in (13 * k + 7, 13 * k + 13)}
    assert logged["valid/ne"][117] < 0.2
    assert max(logged["train/lr_tables"].values()) == pytest.approx(0.2)
    assert max(logged["train/lr_dense"].values()) == pytest.approx(0.01)
    assert settings.load(tmp_path / "learns" / "config.yaml") == configs[0]


def torchrun(config: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, *arguments, "-m", "tools.train", str(config), *overrides],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A config file of a tiny run; its dataset lies beside it."""
    settings.dump(tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run"), tmp_path / "config.yaml")
    return tmp_path / "config.yaml"


def test_the_command_under_torchrun_twice(written: Path) -> None:
    first = torchrun(written)
    assert first.returncode == 0, first.stderr
    assert f"{written.parent}/run: 7 steps, best validation AUC 0." in first.stdout
    assert "Traceback" not in first.stderr and "Warning" not in first.stderr
    second = torchrun(written)
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]


def test_bad_data_under_torchrun_is_one_line(written: Path) -> None:
    def spoil(columns: dict[str, list[Any]]) -> None:
        columns["label"][37] = 2

    rewrite(written.parent / "data", "train", spoil)
    ended = torchrun(written)
    assert ended.returncode != 0
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "split=train/part-00000.parquet: row group 3: column 'label': row 7: " in lines[0]
    assert "exitcode  : 2" in ended.stderr
    assert not (written.parent / "run" / "checkpoints").exists(), "before training"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=2", "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("item_capacity=5", "item_id: capacity 5 is too small"),
        ("data.path=nowhere", "nowhere"),
        ("data.history=3", "data.history"),
    ],
)
def test_bad_input_ends_the_command_with_2_and_one_line(
    written: Path, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _cli.run(lambda: command.main([str(written), override]))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and len(error.splitlines()) == 1
