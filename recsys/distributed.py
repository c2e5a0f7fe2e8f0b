"""The process group of a command: under `torchrun` its ranks, else one rank on its own."""

import ctypes
import gc
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from recsys.errors import InputError, RelayedError

T = TypeVar("T")
_TIMEOUT = timedelta(hours=1)
"""The first rank checks and fits a large dataset while the others wait for it."""
_LOOK_EVERY = 0.2
"""Seconds between two looks for the end of long work."""
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Ranks:
    """This process's place among the ranks, and its device."""

    rank: int
    world_size: int
    local_world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True on the rank that prints and writes what is written once."""
        return self.rank == 0


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the ranks that `torchrun` started (nccl on GPU, gloo on CPU), or form a group of one.

    On the way out of a body that succeeded, whatever it left is collected before the group goes: gloo's threads abort
    the process now and then when a sharded model outlives its group.
    """
    _quiet()
    _keep_freed_memory()
    launched = "RANK" in os.environ
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    backend = "cuda:nccl,cpu:gloo" if cuda else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        alone = {"init_method": f"file://{folder}/rendezvous", "rank": 0, "world_size": 1}
        place = _place() if launched else alone
        dist.init_process_group(backend, timeout=_TIMEOUT, **place)
        try:
            world_size = dist.get_world_size()
            local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
            yield Ranks(dist.get_rank(), world_size, local_world_size, device)
            gc.collect()
            dist.barrier()
        finally:
            dist.destroy_process_group()


def _place() -> dict[str, Any]:
    """Where torchrun's ranks meet."""
    store, rank, world_size = next(rendezvous("env://", timeout=_TIMEOUT))
    store.set_timeout(_TIMEOUT)
    return {
        "store": dist.PrefixStore(start_name(store, rank, world_size), store),
        "rank": rank,
        "world_size": world_size,
    }


def start_name(store: dist.Store, rank: int, world_size: int, timeout: timedelta = _TIMEOUT) -> str:
    """A name for this start of the ranks, the same on all of them, that none before on the same store has had.

    torchrun keeps its store when it starts ranks again: they would call at the addresses of the dead. Over several
    hosts its counts of restarts may differ. So the first rank draws a name, under which every rank writes one that it
    has drawn; a name that the first rank has not answered with all of theirs is of the dead.

    Raises:
        DistStoreError: the first rank has not answered within the time-out, or the store's own has passed.
    """
    mine = uuid4().hex
    if not rank:
        store.set("start", mine)
        store.set(f"{mine} all", " ".join(store.get(f"{mine} {other}").decode() for other in range(1, world_size)))
        return mine
    end = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < end:
        name = store.get("start").decode()
        store.set(f"{name} {rank}", mine)
        while store.get("start").decode() == name and time.monotonic() < end:
            if store.check([f"{name} all"]) and mine.encode() in store.get(f"{name} all"):
                return name
            time.sleep(0.05)
    raise dist.DistStoreError(f"rank {rank}: the first rank has not answered within {timeout}")


def store(name: str) -> dist.Store:
    """A connection of the caller's own, which blocks no other, to a part of the store where the ranks met."""
    return dist.PrefixStore(name, dist.distributed_c10d._get_default_store().clone())  # type: ignore[attr-defined]


def on_first(ranks: Ranks, work: Callable[[], object]) -> None:
    """Run `work` on the first rank while the others wait. Collective.

    Raises:
        InputError: the first rank's, on every rank: a rank left waiting would die of the lost connection instead.
    """
    said: list[str | None] = [None]
    if ranks.is_first:
        try:
            work()
        except InputError as error:
            said = [str(error)]
    dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    if said[0] is not None:
        dist.barrier()
        raise (InputError if ranks.is_first else RelayedError)(said[0])


def long_on_first(ranks: Ranks, name: str, work: Callable[[], object]) -> None:
    """`on_first` for work that may take longer than a collective waits: the others look for its end now and then.
    Collective.

    name: of this call alone, since the ranks met.

    Raises:
        InputError: as `on_first`.
    """
    told = store("long on first")

    def ending() -> None:
        try:
            work()
        finally:
            told.set(name, "ended")

    while not ranks.is_first and not told.check([name]):
        time.sleep(_LOOK_EVERY)
    on_first(ranks, ending)


def of_first(ranks: Ranks, work: Callable[[], T]) -> T:
    """What `work` returns on the first rank, on every rank. Collective.

    Raises:
        InputError: the first rank's, on every rank.
    """
    box: list[T | None] = [None]

    def keep() -> None:
        box[0] = work()

    on_first(ranks, keep)
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return cast(T, box[0])


def come_together(ranks: Ranks, name: str, within: timedelta) -> bool:
    """Whether every rank has come here within a while of this one. No collective: others may be waiting in one.

    name: of this place alone, since the ranks met.
    """
    place = store("come together")
    place.set(f"{name} {ranks.rank}", "here")
    try:
        place.wait([f"{name} {rank}" for rank in range(ranks.world_size)], within)
    except dist.DistStoreError:
        return False
    return True


def agree(ranks: Ranks, wrong: str | None) -> None:
    """End every rank where anything is `wrong` on any; None is nothing. Collective.

    Raises:
        InputError: the lowest rank's, on every rank.
    """
    _agree(wrong, None)


def together(work: Callable[[], T], group: dist.ProcessGroup | None = None) -> T:
    """What `work` returns on this rank, once it has returned on every rank of the group. Collective.

    Raises:
        InputError: the lowest rank's, on every rank.
    """
    try:
        found = work()
    except InputError as error:
        _agree(str(error), group)
        raise
    _agree(None, group)
    return found


def _agree(wrong: str | None, group: dist.ProcessGroup | None) -> None:
    said: list[str | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(said, wrong, group=group)
    for message in said:
        if message:
            raise (RelayedError if dist.get_rank(group) else InputError)(message)


def torchrun() -> list[str]:
    """The command `torchrun`, by this interpreter and on this machine alone."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]


def one_thread() -> dict[str, str]:
    """The environment of a command that starts ranks, with one thread each unless the caller has said otherwise."""
    # Ranks that each take every core slow one another down. A rank's own place is not the command's.
    return {"OMP_NUM_THREADS": "1", **{name: value for name, value in os.environ.items() if name not in _PLACE}}


def _quiet() -> None:
    # Advice of torch and torchrec to their own callers, printed once a rank; none of it is the user's to act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    warnings.filterwarnings("ignore", category=FutureWarning, message="Please use DTensor instead")
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence", module="torchmetrics")
    warnings.filterwarnings(
        "ignore", message="fbgemm::dense_embedding_codegen_lookup_function", module="torch.autograd"
    )
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("Sharding spec not found"))
    for name in (
        "torch.fx._symbolic_trace",
        *(f"torchrec.distributed.{each}" for each in ("planner", "comm", "utils")),
    ):
        logging.getLogger(name).setLevel(logging.ERROR)


def _keep_freed_memory() -> None:
    # glibc gives every large freed tensor back to the kernel and faults it in again at the next step: a fifth of the
    # time of training on CPU. Up to 1 GiB of freed memory stays in the process instead.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 32 << 20)
