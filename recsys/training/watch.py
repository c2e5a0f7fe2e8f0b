"""Ranks that miss one another: one that hangs or fails ends the run on all of them, with its name.

Ranks train in lockstep, so that one that stops leaves the others waiting within a collective, where nothing can wake
them. A thread of each rank therefore says in the store where the ranks met that it lives and how far its rank is. The
first rank's reads what all have said, the others' read the first's, and whoever misses a rank ends all of them.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Event, Thread
from types import TracebackType

import torch.distributed as dist
from tqdm import tqdm

from recsys.distributed import Ranks, store
from recsys.errors import InputError, RelayedError

_LOOKS = 20
"""How often a rank looks in the seconds of its time-out, but at least once a second."""
_GONE = 10
"""Looks after which a process that has not said that it lives is taken for stopped."""
_GRACE = 3
"""Looks that a rank is given to leave by itself, once another has a reason to end all."""
_FAREWELL = 60
"""Tenths of a second that the rank which ends the others waits for them."""
_turn = count()
"""Counts the blocks of this process, which all ranks enter alike: each has its part of the store."""


@dataclass
class _Heard:
    """What a rank has said of itself, and the looks since it last lived and since it last moved."""

    beats: int = -1
    moves: int = -1
    place: str = ""
    silent: int = 0
    still: int = 0

    def hear(self, said: str) -> None:
        beats, moves, self.place = said.split(" ", 2)
        self.silent = self.silent + 1 if self.beats == int(beats) else 0
        self.still = self.still + 1 if self.moves == int(moves) else 0
        self.beats, self.moves = int(beats), int(moves)


class Watch:
    """While its block runs, no rank waits more than `seconds` for another that does not get on. Collective.

    An `InputError` that leaves the block on one rank alone is printed there and ends the others quietly; so does the
    time-out on the rank that finds it. A process that ends so exits with 2. One rank by itself is not watched.

    Looks are counted, not seconds: a machine that slept through them blames nobody.
    """

    def __init__(self, ranks: Ranks, seconds: int) -> None:
        self._ranks, self._seconds = ranks, seconds
        self._pause = min(1.0, seconds / _LOOKS)
        self._at = 0, "the start"
        self._beats = 0
        self._over = Event()
        self._heard = {rank: _Heard() for rank in (range(ranks.world_size) if ranks.is_first else (0, ranks.rank))}
        self._store: dist.Store | None = None
        self._thread = Thread(target=self._run, name="watch", daemon=True)

    def at(self, place: str) -> None:
        """Say where this rank is, such as "step 7". Every rank says the same in the same order."""
        self._at = self._at[0] + 1, place

    @contextmanager
    def within(self, what: str) -> Iterator[None]:
        """Say what this rank is about to do where it is."""
        _, place = self._at
        self.at(f"{place}, {what}")
        yield
        self.at(place)

    def __enter__(self) -> "Watch":
        if self._ranks.world_size > 1:
            self._store = store(f"watch {next(_turn)}")
            self._say(self._store)
            dist.barrier()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._store:
            return
        self._over.set()
        self._thread.join()
        alone = isinstance(error, InputError) and not isinstance(error, RelayedError)
        if alone:
            self._end(self._store, str(error))
        self._store.add("left", 1)
        if alone:
            raise RelayedError(str(error)) from None

    def _run(self) -> None:
        assert self._store
        try:
            while not self._over.wait(self._pause):
                self._look(self._store)
        except dist.DistError:
            return  # the store has gone with torchrun, which takes the ranks along

    def _look(self, store: dist.Store) -> None:
        self._say(store)
        for heard, said in zip(self._heard.values(), store.multi_get([*map(str, self._heard)]), strict=True):
            heard.hear(said.decode())
        if wrong := self._missed():
            self._end(store, wrong)
        # One that fails together with the others leaves the block by itself.
        if store.check(["end"]) and not self._over.wait(_GRACE * self._pause):
            store.add("left", 1)
            os._exit(2)

    def _say(self, store: dist.Store) -> None:
        self._beats += 1
        store.set(str(self._ranks.rank), f"{self._beats} {self._at[0]} {self._at[1]}")

    def _missed(self) -> str | None:
        """Who is waited for too long: processes that do not live, else the ranks that are behind."""
        if not any(heard.still * self._pause >= self._seconds for heard in self._heard.values()):
            return None
        since = f"for {self._seconds} s (train.timeout)"
        if gone := [rank for rank, heard in self._heard.items() if heard.silent >= _GONE]:
            # What a stopped process has said last may be some steps old; those that wait for it know better.
            return f"{_named(gone)} without a sign of life {since}: awaited in {self._at[1]}"
        if not self._ranks.is_first:
            return None  # the first rank hears all of them, and lives
        moves = [heard.moves for heard in self._heard.values()]
        behind = [rank for rank, heard in self._heard.items() if heard.moves == min(moves) < max(moves)]
        if not behind:
            return f"no rank gets on {since}: all are in {self._heard[0].place}"
        return f"{_named(behind)} does not get on {since}: in {self._heard[behind[0]].place}, which others have passed"

    def _end(self, store: dist.Store, wrong: str) -> None:
        """Print why all ranks end, unless another has its own reason, and wait a while for the others to end first."""
        mine = str(self._ranks.rank)
        if store.compare_set("end", "", mine).decode() != mine:
            return
        tqdm.write(f"error: {wrong}", file=sys.stderr)
        for _ in range(_FAREWELL):
            if store.add("left", 0) >= self._ranks.world_size - 1:
                break
            time.sleep(0.1)


def _named(ranks: list[int]) -> str:
    return f"rank {', '.join(map(str, ranks))}"
