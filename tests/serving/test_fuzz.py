"""HTTP bodies of every kind against a served bundle: an answer each time, and never a 500."""

import json
import random
import socket
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from recsys.config import Config
from tests.serving.served import cases, serving

BODIES = 2000
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "item 01", "x" * 3000, "\0", "\ud800", "☃", "../x", [], [[]], {}, [None], {"a": 1}, ["item 01"] * 50,
    {"item_id": 1},
]  # fmt: skip


def mutated(body: Any, draw: random.Random) -> bytes:
    """A body with some of its values, keys or bytes made wrong."""
    tree = json.loads(json.dumps(body))
    for _ in range(draw.choice([0, 1, 1, 2, 5])):
        holder, key = draw.choice(list(places(tree)))
        kind = draw.random()
        if kind < 0.2:
            del holder[key]
        elif kind < 0.3 and isinstance(holder, dict):
            holder[draw.choice(["", "item_id", "history", "x" * 200, "\0", "user"])] = deepcopy(draw.choice(VALUES))
        else:
            holder[key] = deepcopy(draw.choice(VALUES))
        if not tree:
            break
    data = bytearray(json.dumps(tree).encode())
    for _ in range(draw.choice([0, 0, 0, 1, 3])):
        at = draw.randrange(len(data))
        how = draw.choice(["flip", "cut", "put", "twice", "nest"])
        if how == "flip":
            data[at] ^= 1 << draw.randrange(8)
        elif how == "cut":
            del data[at : at + draw.choice([1, 10, 10**6])]
            data = data or bytearray(b" ")
        elif how == "put":
            data[at:at] = draw.choice([draw.randbytes(5), b"NaN", b"1e999", b"\\ud800", b'"', b"}", b"\xff"])
        elif how == "twice":
            data += data[:20000]
        else:
            data[at:at] = draw.choice([b"[", b'{"a":']) * draw.choice([1, 5000])
    return bytes(data)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else []
    for key, value in list(items):
        yield tree, key
        yield from places(value)


def ask(connection: socket.socket, data: bytes) -> tuple[int, bytes]:
    """One request over a connection that is kept; the answer's status and body."""
    connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    told = b""
    while b"\r\n\r\n" not in told:
        told += connection.recv(1 << 16) or b"\r\n\r\n"
    head, _, body = told.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(1 << 16)
    return int(head.split()[1]), body


def test_two_thousand_bodies(made: Config) -> None:
    draw = random.Random(0)
    wholes = [case.body for case in cases(made, [1, 2, 5], "item 02", "no such item")]
    statuses: dict[int, int] = {}
    with serving(made) as client:
        host, _, port = client.address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            for _ in range(BODIES):
                data = mutated(draw.choice(wholes), draw)
                status, told = ask(connection, data)
                assert status in (200, 413, 422), (status, data)
                found = json.loads(told)
                if status == 200:
                    assert all(0 <= p <= 1 for p in found["probabilities"]), data
                else:
                    assert found["error"]
                statuses[status] = statuses.get(status, 0) + 1
        good = client.post(wholes[0])
        assert good.status == 200 and client.metric("thawrec_waiting") == 0
    assert statuses[200] > BODIES / 20 and statuses[422] > BODIES / 2, statuses


def test_what_is_no_http_ends_the_connection_alone(made: Config) -> None:
    draw = random.Random(1)
    with serving(made) as client:
        port = int(client.address.rpartition(":")[2])
        for data in (
            b"\0" * 100,
            b"GET\r\n\r\n",
            b"POST /score HTTP/9\r\n\r\n",
            draw.randbytes(5000),
            b"x" * 200_000 + b"\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                told = connection.recv(1000)
                assert told == b"" or told.startswith(b"HTTP/1.1 4"), told
        assert client.get("/ready").status == 200
