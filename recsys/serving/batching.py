"""Micro-batching: requests that come within a short window, or while a batch is scored, are scored together.

Who asks alone, one request after the other, does not wait for others.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Rows(Protocol):
    """A request, by how many rows it has."""

    @property
    def rows(self) -> int: ...


Q = TypeVar("Q", bound=Rows)
A = TypeVar("A")


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Q, A]):
    request: Q
    answer: "asyncio.Future[A]"


class Batcher(Generic[Q, A]):
    """Answers requests by `work`, in one thread, some at a time and in their order."""

    def __init__(self, work: Callable[[Sequence[Q]], Sequence[A]], window: float, max_rows: int) -> None:
        """
        Args:
            work: answers requests, as many as it is given.
            window: seconds to wait for more, after a batch of more than one request. max_rows: of a batch; a single
                request may have more.
        """
        self._work, self._window, self._max_rows = work, window, max_rows
        self._queue: deque[_Waiting[Q, A]] = deque()
        self._some = asyncio.Event()

    async def ask(self, request: Q) -> A:
        """The answer to a request; one that is cancelled before its batch begins is not scored, and not held."""
        waiting = _Waiting[Q, A](request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._some.set()
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._queue.remove(waiting)
            raise

    async def run(self) -> None:
        """Answer requests until cancelled."""
        with ThreadPoolExecutor(1, thread_name_prefix="score") as thread:
            alone = True
            while True:
                await self._some.wait()
                if not alone and sum(each.request.rows for each in self._queue) < self._max_rows:
                    await asyncio.sleep(self._window)
                batch = self._taken()
                await self._answer(batch, thread)
                alone = len(batch) < 2

    async def _answer(self, batch: list[_Waiting[Q, A]], thread: ThreadPoolExecutor) -> None:
        """Answer a batch; one that fails is tried request by request, so that only what is at fault fails."""
        if not batch:
            return
        asked = [each.request for each in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(thread, self._work, asked)
            pairs = list(zip(batch, answers, strict=True))
        except Exception as error:
            if len(batch) > 1:
                for each in batch:
                    await self._answer([each], thread)
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for each, answer in pairs:
            if not each.answer.done():
                each.answer.set_result(answer)

    def _taken(self) -> list[_Waiting[Q, A]]:
        batch: list[_Waiting[Q, A]] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].request.rows <= self._max_rows):
            each = self._queue.popleft()
            if not each.answer.done():
                batch.append(each)
                rows += each.request.rows
        if not self._queue:
            self._some.clear()
        return batch
