"""A rank that hangs, or that alone cannot go on: the run ends on all ranks, by one line that names what is wrong."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.train import train
from tests import tiny
from tests.ranks import RanksFailed, run_ranks
from tests.training import dying

TRAIN = {"batch_size": 8, "shuffle_rows": 8, "epochs": 2, "hide_ids": 0.0, "timeout": 8}
STEP = 5


@pytest.fixture
def made(tmp_path: Path) -> Config:
    return tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run", train=TRAIN)


def stop(_: Config) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep(_: Config) -> None:
    time.sleep(600)


def vanish(config: Config) -> None:
    for file in split_files(config.data.path, "train"):
        file.unlink()


def shrink(config: Config) -> None:
    for file in split_files(config.data.path, "train"):
        os.truncate(file, file.stat().st_size // 2)


def rewrite(config: Config) -> None:
    """The same row groups, with a row less each."""
    for file in split_files(config.data.path, "train"):
        with pq.ParquetFile(file) as opened:
            groups = [opened.read_row_group(k) for k in range(opened.num_row_groups)]
        with pq.ParquetWriter(file, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group[1:])


def train_and_suffer(config: Config, rank: int, suffer: Callable[[Config], Any], said: Path) -> None:
    """Train; one rank suffers before a step. What the ranks print as errors goes to `said`."""
    if os.environ["RANK"] == str(rank):
        dying.before(STEP, lambda: suffer(config))
    with said.open("a", buffering=1) as file, redirect_stderr(file), process_group() as ranks:
        train(config, ranks)


def ended(config: Config, rank: int, suffer: Callable[[Config], Any]) -> tuple[list[str], str]:
    """The lines of error that the ranks have printed, and how they ended."""
    said = Path(config.run).with_suffix(".txt")
    with pytest.raises(RanksFailed) as failed:
        run_ranks(2, train_and_suffer, config, rank, suffer, said)
    return [line for line in said.read_text().splitlines() if line.startswith("error: ")], str(failed.value)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_is_missed(made: Config, rank: int) -> None:
    lines, how = ended(made, rank, stop)
    assert lines == [f"error: rank {rank} without a sign of life for 8 s (train.timeout): awaited in step {STEP}"]
    assert f"rank {1 - rank} of 2: died before it returned\n(exit code 2)" in how


def test_a_rank_that_lives_and_does_not_get_on_is_missed(made: Config) -> None:
    lines, how = ended(made, 1, sleep)
    assert lines == [f"error: rank 1 does not get on for 8 s (train.timeout): in step {STEP}, which others have passed"]
    assert how.count("(exit code 2)") == 2


@pytest.mark.parametrize(
    ("suffer", "said"),
    [
        (vanish, "cannot be read: .*No such file"),
        (shrink, "cannot be read: .*Parquet"),
        (rewrite, r"expected \d+ rows as when the split was opened, found \d+"),
    ],
)
def test_a_file_that_changes_under_training_ends_all_ranks(
    made: Config, suffer: Callable[[Config], Any], said: str
) -> None:
    [line], how = ended(made, 1, suffer)
    assert re.fullmatch(rf"error: .*split=train/part-0000\d\.parquet: row group \d+: {said}.*", line)
    assert "gloo" not in how.lower() and "did not end in time" not in how
