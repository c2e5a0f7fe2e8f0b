"""A rank killed at any step, and the run resumed: the same bits as if nothing had happened.

`KILLS` in the environment is how many kills there are over all tests (20 unless it is set); a tenth of them is here.
"""

import os
import random
import signal
from pathlib import Path

import pytest
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from recsys import settings
from recsys.config import Config
from recsys.distributed import process_group
from recsys.tables import checkpoint, manifest
from recsys.tables.places import FORMAT
from recsys.train import train
from tests import wide
from tests.ranks import HOST, RanksFailed, fork, run_ranks
from tests.training import dying

ROWS = {"train": 120, "valid": 20, "test": 20}
STEPS = 8
KILLS = int(os.environ.get("KILLS", "20")) // 10
DEATHS = [(k % 2, random.Random(k).randint(1, STEPS), bool(k % 2)) for k in range(KILLS)]
"""Rank, step, and whether torchrun's agent itself starts the ranks again."""
TRAIN = {
    "batch_size": 16,
    "shuffle_rows": 32,
    "epochs": 2,
    "evals_per_epoch": 3,
    "patience": 99,
    "hide_ids": 0.2,
    "hide_users": 0.2,
    "warmup": 0.2,
    "decay": "cosine",
    "clip": 0.5,
    "accumulate": 2,
    "keep_negatives": 0.97,
    "groups": [{"pattern": "*.top.*", "optimizer": "adamw", "weight_decay": 0.1}],
}
MODEL = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4, "dropout": 0.3}


def config(home: Path, run: str) -> Config:
    features = [{**each, "sharding": "data_parallel"} if each["name"] == "gender" else each for each in wide.FEATURES]
    return wide.config(home / "data", home / run, model=MODEL, features=features, train=TRAIN)


def train_whole(made: Config) -> int:
    with process_group() as ranks:
        return train(made, ranks).step


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a run on it that nothing interrupts."""
    folder = tmp_path_factory.mktemp("killed")
    wide.write(folder / "data", ROWS)
    assert run_ranks(2, train_whole, config(folder, "whole")) == [STEPS, STEPS]
    return folder


def train_and_die(made: Config, rank: int, step: int) -> None:
    if os.environ["RANK"] == str(rank):
        dying.before(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train_whole(made)


def launch(*arguments: str) -> None:
    """torchrun's agent over two ranks that are forked from this process, which has imported what they need."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="killed",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{HOST}:0",
        local_addr=HOST,
        max_restarts=1,
        start_method="fork",
    )
    elastic_launch(config, dying.main)(*arguments)


@pytest.mark.parametrize(("rank", "step", "again"), DEATHS)
def test_killed_and_resumed_is_bit_identical(home: Path, rank: int, step: int, again: bool) -> None:
    """Tables, Adagrad's sums, dense part, its optimizers' state, early stopping: every byte of the last checkpoint."""
    run = f"rank {rank} before step {step}, restarted {again}"
    made = config(home, run)
    if again:
        settings.dump(made, home / f"{run}.yaml")
        fork(launch, str(rank), str(step), str(home / f"{run}.yaml"))
    else:
        with pytest.raises(RanksFailed, match="exit code -9"):
            run_ranks(2, train_and_die, made, rank, step)
        assert run_ranks(2, train_whole, made) == [STEPS, STEPS]
    mine, theirs = (told(home / name) for name in (run, "whole"))
    assert mine["progress"] == theirs["progress"] and mine["progress"]["done"]
    assert mine["files"] == theirs["files"] and len(theirs["files"]) == 2


def told(run: Path) -> dict[str, dict[str, object]]:
    """Where a run's last checkpoint stands, and the checksums of its files of tensors."""
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    found = manifest.verify(newest, FORMAT)
    del found["files"][".metadata"]  # holds a random name, for torch's own tools alone
    return found
