"""A load generator in a process of its own: clients that ask, wait for the answer and ask again, each over one
connection that it keeps.

    with Load("127.0.0.1:8000", [body, ...], clients=8, seconds=10) as load:
        ...
    load.answers()                      # what came back, in no order

HTTP is spoken by hand, so that the generator costs little of the machine that it measures.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TextIO


@dataclass(frozen=True)
class Answered:
    """One request: which of the bodies, when it was sent (seconds from the start) and how long it took, and what came
    back; status 0: the connection ended."""

    body: int
    sent: float
    seconds: float
    status: int
    told: str


class Load:
    """A running load; leaving the block waits for its end."""

    def __init__(self, address: str, bodies: Sequence[bytes], clients: int, seconds: float) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._out = Path(self._folder.name) / "answers.jsonl"
        given = Path(self._folder.name) / "bodies.json"
        given.write_text(json.dumps([body.decode() for body in bodies]))
        command = [sys.executable, "-m", "recsys.serving.load", address, str(given), str(self._out)]
        self._process = subprocess.Popen([*command, str(clients), str(seconds)])

    def __enter__(self) -> "Load":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self._process.kill()
        status = self._process.wait()
        if not error and status:
            raise RuntimeError(f"the load generator ended with {status}")

    def answers(self) -> Iterator[Answered]:
        """Every answer of a load that has ended, read in a stream."""
        with self._out.open() as file:
            for line in file:
                yield Answered(**json.loads(line))


async def _client(
    host: str, port: int, requests: list[bytes], turn: Iterator[int], begin: float, end: float, out: TextIO
) -> None:
    streams = None
    while (sent := time.perf_counter()) < end:
        body = next(turn) % len(requests)
        try:
            reader, writer = streams = streams or await asyncio.open_connection(host, port)
            writer.write(requests[body])
            status, told = await _answer(reader)
        except (OSError, EOFError, ValueError) as error:
            status, told, streams = 0, repr(error), None
        took = time.perf_counter() - sent
        out.write(json.dumps(asdict(Answered(body, sent - begin, took, status, told))) + "\n")
    if streams:
        streams[1].close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in head if line.startswith("content-length:"))
    return int(head[0].split()[1]), (await reader.readexactly(length)).decode()


async def _run(address: str, bodies: list[str], clients: int, seconds: float, out: TextIO) -> None:
    host, _, port = address.rpartition(":")
    requests = [
        f"POST /score HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        for body in (text.encode() for text in bodies)
    ]
    begin, turn = time.perf_counter(), count()
    ask = (_client(host, int(port), requests, turn, begin, begin + seconds, out) for _ in range(clients))
    await asyncio.gather(*ask)


def main(address: str, bodies: str, out: str, clients: str, seconds: str) -> None:
    """One load, as `Load` starts it."""
    with Path(out).open("w") as file:
        asyncio.run(_run(address, json.loads(Path(bodies).read_text()), int(clients), float(seconds), file))


if __name__ == "__main__":
    main(*sys.argv[1:])
