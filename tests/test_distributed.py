"""What the first rank does for all, and its error on every rank."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import sleep

import pytest
import torch.distributed as dist

from recsys.distributed import on_first, process_group, start_name, together
from recsys.errors import InputError, RelayedError
from tests.ranks import run_ranks


def refuse() -> None:
    raise InputError("labels.parquet: no")


def work_once() -> tuple[str, str, int]:
    done: list[int] = []
    with process_group() as ranks:
        on_first(ranks, lambda: done.append(ranks.rank))
        try:
            on_first(ranks, refuse)
        except InputError as error:
            return type(error).__name__, str(error), len(done)
    return "", "", len(done)


def test_the_first_rank_works_and_all_hear_its_error() -> None:
    first, second = run_ranks(2, work_once)
    assert first == (InputError.__name__, "labels.parquet: no", 1)
    assert second == (RelayedError.__name__, "labels.parquet: no", 0)


def work_together() -> tuple[int, str, str]:
    """What one's own work gives, and what is raised where only the second rank's refuses."""
    with process_group() as ranks:
        found = together(lambda: 10 + ranks.rank)
        try:
            together(refuse if ranks.rank else lambda: None)
        except InputError as error:
            return found, type(error).__name__, str(error)
    return found, "", ""


def test_what_any_rank_refuses_every_rank_hears() -> None:
    first, second = run_ranks(2, work_together)
    assert first == (10, InputError.__name__, "labels.parquet: no")
    assert second == (11, RelayedError.__name__, "labels.parquet: no")


def test_each_start_on_a_store_that_is_kept_has_a_name_of_its_own() -> None:
    store = dist.HashStore()
    store.set("start", "that of one who died before the others had come")
    lives = []
    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            others = [pool.submit(start_name, store, rank, 3) for rank in (1, 2)]
            sleep(0.1)  # they have signed under the name of the dead by now
            lives.append({start_name(store, 0, 3), *(other.result(60) for other in others)})
    assert [len(names) for names in lives] == [1, 1] and not lives[0] & lives[1]


def test_who_is_never_answered_gives_up() -> None:
    store = dist.HashStore()
    store.set("start", "that of the dead")
    with pytest.raises(dist.DistStoreError, match="rank 1: the first rank has not answered"):
        start_name(store, 1, 2, timedelta(seconds=0.3))
