"""Run a function on several gloo ranks and get its results back: `run_ranks(2, fn, *args)`.

The ranks are forked from a server process that has imported torch and the product once, so a rank starts in
milliseconds instead of seconds. They leave by `os._exit`, so nothing here shows what the interpreter's own exit does:
the commands are tested under `torchrun` for that.
"""

import faulthandler
import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar

from torch.distributed import TCPStore

HOST = "127.0.0.1"
GRACE = 3.0  # seconds that the other ranks get to end by themselves after the first failure

T = TypeVar("T")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["recsys.train", "recsys.predict", "recsys.tables.export"])


class RanksFailed(AssertionError):
    """A rank raised, died or did not end in time; the message holds every failed rank's traceback, the causes first."""


@dataclass
class _Rank:
    number: int
    process: ForkServerProcess
    connection: Connection
    stacks: Path  # where the rank's threads are written when it hangs
    result: bytes | None = None
    failure: str | None = None

    def receive(self) -> None:
        try:
            self.result, self.failure = self.connection.recv()
        except EOFError:
            self.failure = "died before it returned"

    def end(self, seconds: float) -> None:
        """Join the process, killing it when it outlives its time, and hold its exit code against it."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            stacks = self.stacks.read_text() if self.stacks.exists() else ""
            self.failure = self.failure or f"did not end in time, killed\n{stacks}"
        if self.process.exitcode:
            self.failure = f"{self.failure or 'returned'}\n(exit code {self.process.exitcode})"


def run_ranks(
    world_size: int, fn: Callable[..., T], *args: Any, timeout: float = 120.0, local_world_size: int | None = None
) -> list[T]:
    """Call `fn(*args)` on `world_size` ranks under torchrun's environment variables; the results by rank.

    The ranks believe to be on hosts of `local_world_size` ranks each; on one host by default.
    `fn` is a module-level function of an importable module (a test module is one). It joins the process group itself,
    and its arguments and result travel pickled, tensors by value. Ranks see this process's environment as it is now.

    Raises:
        RanksFailed: a rank raised, exited non-zero, or was still running after `timeout` seconds (all are killed).
    """
    payload = pickle.dumps((fn, args))
    # The ranks meet at a store that lives here, as under torchrun: no port to guess, and no rank that must leave last.
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            _start(
                number,
                world_size,
                local_world_size or world_size,
                store.port,
                payload,
                timeout,
                Path(folder) / f"{number}.txt",
            )
            for number in range(world_size)
        ]
        deadline = time.monotonic() + timeout
        answered = _collect(ranks, deadline)
        for rank in ranks:
            rank.end(max(deadline - time.monotonic(), 1.0) if answered else 0.0)
            rank.connection.close()
    if failed := sorted((rank for rank in ranks if rank.failure), key=_is_consequence):
        raise RanksFailed("\n".join(f"rank {rank.number} of {world_size}: {rank.failure}" for rank in failed))
    return [pickle.loads(rank.result or b"") for rank in ranks]


def fork(fn: Callable[..., object], *args: Any, timeout: float = 120.0) -> None:
    """Call `fn(*args)` in a process that may have children of its own, forked from the same server.

    Raises:
        RanksFailed: it exited non-zero, or was still running after `timeout` seconds (it is killed).
    """
    process = _context.Process(target=fn, args=args)
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode:
        raise RanksFailed(f"{fn.__name__}: exit code {process.exitcode}")


def _start(
    number: int, world_size: int, local_world_size: int, port: int, payload: bytes, timeout: float, stacks: Path
) -> _Rank:
    environment = dict(
        os.environ,
        RANK=str(number),
        LOCAL_RANK=str(number % local_world_size),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(local_world_size),
        MASTER_ADDR=HOST,
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT="0",
    )
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=_main, args=(theirs, payload, environment, timeout, stacks), daemon=True)
    process.start()
    theirs.close()  # else a rank that dies would never read as the end of its pipe
    return _Rank(number, process, ours, stacks)


def _collect(ranks: list[_Rank], deadline: float) -> bool:
    """Wait for every rank's word, or for a little more after the first failure; whether all of them spoke."""
    waiting: dict[Any, _Rank] = {rank.connection: rank for rank in ranks}
    while waiting and (left := deadline - time.monotonic()) > 0:
        for ready in wait(list(waiting), left):
            rank = waiting.pop(ready)
            rank.receive()
            if rank.failure:
                deadline = min(deadline, time.monotonic() + GRACE)
    return not waiting


def _is_consequence(rank: _Rank) -> bool:
    # A rank that leaves breaks its neighbours' collectives, and their tracebacks often arrive before its own.
    return "gloo" in (rank.failure or "").lower() or "killed" in (rank.failure or "")


def _main(connection: Connection, payload: bytes, environment: dict[str, str], timeout: float, stacks: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with stacks.open("w") as file:
        faulthandler.dump_traceback_later(0.9 * timeout, file=file)
        try:
            fn, args = pickle.loads(payload)
            connection.send((pickle.dumps(fn(*args)), None))
        except BaseException:
            connection.send((None, traceback.format_exc()))
        faulthandler.cancel_dump_traceback_later()
