"""A rank that hangs, or that alone cannot go on: the run ends on all ranks, by one line that names what is wrong."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Condition, Event
from typing import NoReturn

import pytest
import torch
import torch.distributed as dist

from recsys.config import Config
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError, RelayedError
from recsys.train import train
from recsys.training import watch
from recsys.training.watch import Watch
from tests import tiny
from tests.ranks import RanksFailed, run_ranks
from tests.training import dying

TRAIN = {"batch_size": 8, "shuffle_rows": 8, "epochs": 2, "hide_ids": 0.0, "timeout": 20}
STEP = 5
LOOKS = 20
"""Looks of a rank in its time-out of one second."""
PATIENCE = 60.0
"""Seconds after which a test that hangs fails."""


def train_and_stop(config: Config, said: Path) -> None:
    """Train; the second rank is stopped before a step. What the ranks print as errors goes to `said`."""
    if os.environ["RANK"] == "1":
        dying.before(STEP, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    with said.open("a", buffering=1) as file, redirect_stderr(file), process_group() as ranks:
        train(config, ranks)


def test_a_stopped_process_is_missed(tmp_path: Path) -> None:
    made = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run", train=TRAIN)
    with pytest.raises(RanksFailed, match=r"rank 0 of 2: died before it returned\n\(exit code 2\)"):
        run_ranks(2, train_and_stop, made, tmp_path / "said")
    lines = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error: ")]
    assert lines == [f"error: rank 1 without a sign of life for 20 s (train.timeout): awaited in step {STEP}"]


@dataclass
class Meeting:
    """Two ranks that are threads of this process, and the store where they meet.

    Attributes:
        stopped: ranks whose threads stand still, as those of a stopped process do.
        exits: how often a rank has ended its process.
    """

    store: dist.Store = field(default_factory=dist.HashStore)
    stopped: set[str] = field(default_factory=set)
    exits: list[int] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    looks: Counter[str] = field(default_factory=Counter)
    looked: Condition = field(default_factory=Condition)

    def say(self, rank: str) -> None:
        """Called for each look of a rank; one that is stopped does not come back before the end."""
        if rank in self.stopped:
            self.over.wait(PATIENCE)
        with self.looked:
            self.looks[rank] += 1
            self.looked.notify_all()

    def spend(self, rank: int, share: float) -> None:
        """Be busy for a share of the time-out, as the rank's own looks count it."""
        end = self.looks[str(rank)] + share * LOOKS
        with self.looked:
            assert self.looked.wait_for(lambda: self.over.is_set() or self.looks[str(rank)] >= end, PATIENCE)

    def exit(self, code: int) -> NoReturn:
        """Instead of `os._exit`: the rank's watch looks no more, and whoever hangs is let go."""
        self.exits.append(code)
        self.over.set()
        with self.looked:
            self.looked.notify_all()
        raise dist.DistError("the process has ended")

    def run(self, work: Callable[[Watch, int], object]) -> list[BaseException | None]:
        """What the block of each rank raises."""

        def live(rank: int) -> None:
            with Watch(Ranks(rank, 2, 2, torch.device("cpu")), 1) as watched:
                work(watched, rank)

        with ThreadPoolExecutor(2) as pool:
            return [each.exception(PATIENCE) for each in [pool.submit(live, rank) for rank in range(2)]]


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meeting]:
    made = Meeting()

    class Said(dist.PrefixStore):
        def set(self, key: str, value: str) -> None:
            made.say(key)
            super().set(key, value)

    monkeypatch.setattr(watch, "store", lambda _: Said("watch", made.store))
    monkeypatch.setattr(dist, "barrier", Barrier(2).wait)
    monkeypatch.setattr(os, "_exit", made.exit)
    yield made
    made.over.set()


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_a_rank_that_lives_and_does_not_get_on_is_missed(meeting: Meeting, capsys: pytest.CaptureFixture[str]) -> None:
    def work(watched: Watch, rank: int) -> None:
        watched.at("step 1")
        if not rank:
            watched.at("step 2")
        assert meeting.over.wait(PATIENCE)

    assert meeting.run(work) == [None, None]
    assert errors(capsys) == [
        "error: rank 1 does not get on for 1 s (train.timeout): in step 1, which others have passed"
    ]
    assert set(meeting.exits) == {2}


def test_a_first_rank_that_is_stopped_is_missed(
    meeting: Meeting, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_FAREWELL", 1)

    def work(watched: Watch, rank: int) -> None:
        watched.at("step 1")
        meeting.spend(rank, 0.2)
        if rank:
            watched.at("step 2")
        else:
            meeting.stopped.add("0")
        assert meeting.over.wait(PATIENCE)

    assert meeting.run(work) == [None, None]
    assert errors(capsys) == ["error: rank 0 without a sign of life for 1 s (train.timeout): awaited in step 2"]


def test_of_ranks_that_all_hang_none_is_blamed(meeting: Meeting, capsys: pytest.CaptureFixture[str]) -> None:
    def work(watched: Watch, rank: int) -> None:
        watched.at("step 1")
        assert meeting.over.wait(PATIENCE)

    assert meeting.run(work) == [None, None]
    assert errors(capsys) == ["error: no rank gets on for 1 s (train.timeout): all are in step 1"]


def test_slow_ranks_are_not_missed(meeting: Meeting, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps, a validation and a save that take 0.6 of the time-out each, on one rank later than on the other."""

    def work(watched: Watch, rank: int) -> None:
        meeting.spend(rank, 0.3 * rank)
        for place in ("step 1", "step 2", "a validation, 0 of 1 batches done", "the checkpoint of step 2"):
            watched.at(place)
            meeting.spend(rank, 0.6)

    assert meeting.run(work) == [None, None]
    assert not errors(capsys) and not meeting.exits


def test_what_one_rank_alone_refuses_ends_the_other(meeting: Meeting, capsys: pytest.CaptureFixture[str]) -> None:
    def work(watched: Watch, rank: int) -> None:
        if rank:
            raise InputError("part-00000.parquet: row group 3: cannot be read")
        assert meeting.over.wait(PATIENCE)

    first, second = meeting.run(work)
    assert first is None and isinstance(second, RelayedError)
    assert errors(capsys) == ["error: part-00000.parquet: row group 3: cannot be read"]
    assert meeting.exits == [2]
