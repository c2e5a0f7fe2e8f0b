"""Who may change a run's files while others read them.

A lock is a file that is locked, not one that exists: it goes with the process that holds it, however that ends. In a
command of several ranks the first one holds it for all.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from recsys.distributed import Ranks, on_first
from recsys.errors import InputError
from recsys.files import locked


def changing(run: Path) -> AbstractContextManager[object]:
    """For whoever seals, replaces or removes checkpoints, deltas, id maps or the bundle: one process, and no reader."""
    return locked(run / ".lock")


def reading(run: Path) -> AbstractContextManager[object]:
    """For whoever needs several of them to stay as they are for a while: any number of processes."""
    return locked(run / ".lock", shared=True)


def training(run: Path) -> AbstractContextManager[object]:
    """Held while a run trains.

    Raises:
        InputError: another process trains it.
    """
    try:
        return locked(run / ".training", wait=False)
    except BlockingIOError:
        raise InputError(f"{run}: another process trains this run") from None


@contextmanager
def training_together(run: Path, ranks: Ranks) -> Iterator[None]:
    """`training` by all ranks, of which the first takes the lock. Collective.

    Raises:
        InputError: as `training`; on every rank.
    """
    with ExitStack() as held:
        on_first(ranks, lambda: held.enter_context(training(run)))
        yield


def require_idle(run: Path) -> None:
    """Refuse while the run trains.

    Raises:
        InputError: it does.
    """
    with training(run):
        pass
