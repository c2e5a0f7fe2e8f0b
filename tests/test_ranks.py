"""The helper that other tests run ranks with."""

import os
import time

import pytest
import torch
import torch.distributed as dist

from recsys.distributed import process_group
from tests.ranks import RanksFailed, run_ranks


def add_up(mine: torch.Tensor) -> tuple[int, torch.Tensor, str]:
    with process_group() as ranks:
        total = mine * (ranks.rank + 1)
        dist.all_reduce(total)
        return ranks.rank, total, os.environ.get("FROM_PARENT", "")


def second_fails_in_the_middle() -> None:
    with process_group() as ranks:
        if ranks.rank == 1:
            raise ValueError("what the second rank says")
        dist.barrier()


def second_dies() -> None:
    if os.environ["RANK"] == "1":
        os._exit(7)


def never_ends() -> None:
    time.sleep(60)


def test_results_come_back_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_PARENT", "seen")
    results = run_ranks(2, add_up, torch.tensor([1.0, 2.0]))
    assert [rank for rank, _, _ in results] == [0, 1]
    for _, total, seen in results:
        assert total.tolist() == [3.0, 6.0]
        assert seen == "seen"


def test_one_rank_is_a_group_too() -> None:
    assert run_ranks(1, add_up, torch.tensor([5.0]))[0][1].tolist() == [5.0]


def test_a_failing_rank_is_named_with_its_traceback() -> None:
    with pytest.raises(RanksFailed, match="rank 1 of 2: Traceback") as caught:
        run_ranks(2, second_fails_in_the_middle)
    message = str(caught.value)
    assert "what the second rank says" in message and "in second_fails_in_the_middle" in message
    assert message.startswith("rank 1"), "the cause stands before what it caused"


def test_a_rank_that_dies_is_named_with_its_exit_code() -> None:
    with pytest.raises(RanksFailed, match=r"rank 1 of 2: died before it returned\n\(exit code 7\)"):
        run_ranks(2, second_dies)


def test_a_rank_that_hangs_is_killed_and_shows_where() -> None:
    started = time.monotonic()
    with pytest.raises(RanksFailed, match=r"did not end in time, killed(?s:.*)in never_ends"):
        run_ranks(2, never_ends, timeout=2.0)
    assert time.monotonic() - started < 30
