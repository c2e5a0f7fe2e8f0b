"""What the first rank does for all, and its error on every rank."""

from recsys.distributed import on_first, process_group
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
