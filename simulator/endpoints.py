"""Servers that all answer the same: a request goes to whichever is up and least busy, and what failed is asked again.

Processes that ask the same servers share them out, and turn to another's while their own are down.

A server that failed is closed for a while that doubles with each further failure, and then tried by one request alone,
after the checks that its first request had. Only what failed is asked again, so no answer is asked for twice.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3

from recsys.config_simulator import Requests
from recsys.distributed import Ranks
from recsys.errors import InputError

K = TypeVar("K")
T = TypeVar("T")
LONGEST = 60.0
"""Seconds that a server is closed at most."""
CONNECT = 10.0
"""Seconds in which a server must take a connection, however long it may think."""
BUSY = (408, 425, 429)
"""HTTP statuses of the 4xx that say: not now."""


class Fault(Exception):
    """A server did not answer, or not as it should; another attempt may go better."""


class Refused(InputError):
    """A server did not accept a request (HTTP 4xx), and would not accept it again."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass(frozen=True)
class Share:
    """Which of `ranks` processes this is that ask the same servers."""

    rank: int = 0
    ranks: int = 1

    @staticmethod
    def of(ranks: Ranks) -> "Share":
        """This rank's."""
        return Share(ranks.rank, ranks.world_size)

    def limits(self, servers: int, in_flight: int) -> list[int]:
        """[servers] requests at a time to each; 0 to those of other processes.

        Servers are dealt in order, so those of a host's ranks stand together. Where processes share a server, their
        limits come to `in_flight`, and are at least 1.
        """
        homes = [rank * servers // self.ranks for rank in range(self.ranks)]
        if servers < self.ranks:
            sharing = [rank for rank, home in enumerate(homes) if home == homes[self.rank]]
            share, more = divmod(in_flight, len(sharing))
            mine = max(share + (sharing.index(self.rank) < more), 1)
            return [mine if one == homes[self.rank] else 0 for one in range(servers)]
        bounds = [*homes, servers]
        return [in_flight * (bounds[self.rank] <= one < bounds[self.rank + 1]) for one in range(servers)]


@dataclass(eq=False)
class Server:
    """One of them.

    Attributes:
        url: where it is, without a slash at the end.
        limit: how many requests it has at a time.
        own: it is of this process's share.
        checked: it passed the checks since it last failed.
        busy: how many requests it has.
        failures: how often it failed since it last answered, those counted once that were under way together.
        failed_at, closed_until: in seconds of the monotonic clock.
        last: what went wrong last.
    """

    url: str
    key: str
    http: urllib3.PoolManager
    limit: int
    own: bool
    checked: bool = False
    busy: int = 0
    failures: int = 0
    failed_at: float = 0.0
    closed_until: float = 0.0
    last: str = ""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """What it answers to a JSON body, from JSON.

        Raises:
            Fault: no connection, no answer in time, an error of its own (HTTP 5xx) or no JSON.
            Refused: HTTP 4xx; the message has the server's words.
        """
        try:
            # retries=False: no redirect is followed, and faults are ours to count.
            answer = self.http.request("POST", self.url + path, json=body, retries=False)
        except urllib3.exceptions.HTTPError as error:
            raise Fault(f"{path}: {error}") from None
        words = f"{path}: HTTP {answer.status}: {brief(answer.data.decode(errors='replace'))}"
        if 400 <= answer.status < 500 and answer.status not in BUSY:
            raise Refused(answer.status, f"{self.key}: {self.url}{words}")
        if answer.status != 200:
            raise Fault(words)
        try:
            return json.loads(answer.data)
        except ValueError:
            raise Fault(f"{path}: expected JSON, got {brief(answer.data.decode(errors='replace'))}") from None


ALONE = Share()
Question = Callable[[Server], T]
"""Asks a server; raises `Fault` also where the answer is not as it should be."""


class Endpoints:
    """Servers of one kind, with their connections.

    Args:
        key: the field of the config that names them, for errors.
        check: asked of each server before its first request, and again after a failure; raises InputError where a
            server is not the one that is wanted.
        share: which of the processes that ask them this is.
    """

    def __init__(
        self, key: str, urls: Sequence[str], config: Requests, check: Question[None], share: Share = ALONE
    ) -> None:
        timeout = urllib3.Timeout(connect=min(CONNECT, config.timeout), read=config.timeout)
        http = urllib3.PoolManager(num_pools=len(urls), maxsize=config.in_flight, timeout=timeout)
        self._key = key
        limits = share.limits(len(urls), config.in_flight)
        servers = [
            Server(url, key, http, limit or config.in_flight, limit > 0)
            for url, limit in zip(urls, limits, strict=True)
        ]
        # Of equals the first is asked: so processes whose own are down do not all turn to the same one.
        home = next((place for place, one in enumerate(servers) if one.own), 0)
        self._servers = servers[home:] + servers[:home]
        self._config = config
        self._check = check
        self._changed = threading.Condition()
        self._ended: InputError | None = None

    def ask(self, questions: Iterable[tuple[K, Question[T]]]) -> Iterator[tuple[K, T]]:
        """Each question's key and answer, as they come in; as many questions are drawn as are under way, twice over.

        One call at a time. What is known of servers is kept for the next one, unless all were lost.

        Raises:
            Refused, InputError: by a server, or by its check.
            InputError: a question that no server answered in all its attempts; the message says what each server did.
        """
        self._ended = None
        if all(server.failures > self._config.retries for server in self._servers):
            for server in self._servers:
                server.failures, server.closed_until = 0, 0.0
        width = sum(server.limit for server in self._servers if server.own)
        with ThreadPoolExecutor(width) as pool:
            running: dict[Future[T], K] = {}
            try:
                for key, question in questions:
                    running[pool.submit(self._answer, question)] = key
                    if len(running) == 2 * width:
                        yield from _done(running)
                while running:
                    yield from _done(running)
            finally:
                self._end(InputError(f"{self._key}: given up"))
                pool.shutdown(wait=False, cancel_futures=True)

    def _end(self, error: InputError) -> InputError:
        """Have all that wait for a server, or will, raise an error, or the one that they had to raise already."""
        with self._changed:
            self._ended = self._ended or error
            self._changed.notify_all()
            return self._ended

    def _answer(self, question: Question[T]) -> T:
        failed: dict[Server, list[str]] = {server: [] for server in self._servers}
        while True:
            server = self._take(failed)
            started, fault = time.monotonic(), None
            try:
                if not server.checked:
                    self._check(server)
                    server.checked = True
                return question(server)
            except Fault as one:
                fault = str(one)
                failed[server].append(fault)
            except InputError as error:
                raise self._end(error) from None
            finally:
                self._give_back(server, started, fault)

    def _take(self, failed: dict[Server, list[str]]) -> Server:
        """The least busy of the servers that are open to a question which failed at some of them; own ones first."""
        with self._changed:
            while self._ended is None:
                left = [one for one in self._servers if len(failed[one]) <= self._config.retries]
                if all(one.failures > self._config.retries for one in left):
                    self._ended = self._lost(failed)
                    break
                now = time.monotonic()
                free = [
                    one for one in left if one.closed_until <= now and one.busy < (1 if one.failures else one.limit)
                ]
                if free:
                    server = min(free, key=lambda one: (not one.own, one.failures, one.busy))
                    server.busy += 1
                    return server
                opens = [one.closed_until - now for one in left if one.closed_until > now]
                self._changed.wait(min(opens, default=None))
            raise self._ended

    def _give_back(self, server: Server, started: float, fault: str | None) -> None:
        with self._changed:
            server.busy -= 1
            if fault is None:
                server.failures = 0
            else:
                server.checked, server.last = False, fault
                # What was under way when it failed tells nothing new.
                if started >= server.failed_at:
                    server.failed_at = time.monotonic()
                    server.closed_until = server.failed_at + min(self._config.backoff * 2**server.failures, LONGEST)
                    server.failures += 1
            self._changed.notify_all()

    def _lost(self, failed: dict[Server, list[str]]) -> InputError:
        told = [f"{one.url}{(failed[one] or [one.last])[-1]}" for one in self._servers]
        return InputError(f"{self._key}: no answer after {self._config.retries + 1} attempts: {'; '.join(told)}")


def _done(running: dict[Future[T], K]) -> Iterator[tuple[K, T]]:
    """Keys and answers of one or more that are done, which are taken out."""
    for one in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(one), one.result()


def brief(text: str) -> str:
    """The text in one line, cut."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]} ..."
