"""A small run with proxies in its ID slot, exported; a server of it in this process; and what plain scoring says."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import urllib3
import uvicorn

from recsys import runs
from recsys.config import Config
from recsys.config_serving import Serving
from recsys.data.encode import Encoder
from recsys.distributed import process_group
from recsys.serving.app import Server
from recsys.serving.run import server_of
from recsys.tables import checkpoint, content, log
from recsys.tables.bundle import Bundle
from recsys.tables.checkpoint import Progress
from recsys.tables.export import export
from recsys.tables.lookup import IdLookup
from recsys.tables.piece import Audience, Piece
from recsys.tables.probe import raw_rows
from recsys.tables.vectors import TableVectors
from recsys.tables.version import Version
from recsys.train import build, fitted
from tests.tables.test_item_content import config as of_place

VERSION = Version("tables", "run", 1)
USER = ("user_id", "gender", "age", "history", "history_label")
ITEM = ("item_id", "genres", "year")
Rows = dict[int, str | None]
"""Rows of a table by number, and their owners."""


def config(home: Path, run: Path | None = None, **serving: Any) -> Config:
    made = of_place(home, "slot", layers=True)
    model = replace(made.model, init_std=0.5, spare=1.0)
    return replace(made, run=str(run or home / "run"), model=model, serving=Serving(port=0, poll=0.02, **serving))


def write_run(made: Config) -> None:
    """A checkpoint of weights as drawn, and its export. Collective over one rank."""
    torch.manual_seed(1)
    with process_group() as ranks:
        runs.begin(made)
        encoder = fitted(made, ranks)
        sharded = build(made, encoder, ranks)
        content.fill(sharded, encoder, ranks)
        with torch.no_grad():
            for parameter in sharded.model.module.ranker.dense_arch.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        checkpoint.save(Path(made.run) / "checkpoints", sharded, Progress(step=1, best_auc=0.5), 1, VERSION)
        export(made, ranks, part_rows=7)


class Run:
    """A run of its own, and what plain scoring makes of its deltas.

    Attributes:
        plain: the bundle as it must score at the newest delta: its tables written over by hand.
    """

    def __init__(self, made: Config, exported: Bundle) -> None:
        self.made, self.folder, self.plain = made, Path(made.run), exported
        self._owners = {name: [None, *_owners(ids)] for name, ids in exported.ids.items()}

    def row(self, item: str, table: str = "item_id") -> int:
        return self._owners[table].index(item)

    def free(self, table: str = "item_id") -> int:
        """The first row beyond those of the export."""
        return len(_owners(self.plain.ids[table])) + 1

    def piece(self, table: str, rows: Rows, seed: int, audience: Audience = "both") -> Piece:
        """Vectors drawn for rows, under these owners."""
        order = sorted(rows)
        draw = torch.Generator().manual_seed(seed)
        vectors = torch.randn(len(order), self.plain.vectors[table].dim, generator=draw)
        ids = pa.array([rows[row] for row in order], pa.string())
        return Piece.of(table, torch.tensor(order), ids, vectors, "test", VERSION, audience=audience)

    def append(self, table: str, rows: Rows, seed: int, audience: Audience = "both") -> int:
        """A delta into the log, and nowhere else; its number."""
        piece = self.piece(table, rows, seed, audience)
        self.take(piece)
        return log.append(self.folder, [piece]).last

    def take(self, piece: Piece) -> None:
        """Write rows into the plain tables."""
        self.plain, owners = copy(self.plain), self._owners[piece.table]
        old = self.plain.vectors[piece.table].take(torch.arange(len(owners)))
        highest = max(len(owners), int(piece.rows.max()) + 1)
        owners += [None] * (highest - len(owners))
        vectors = torch.cat([old, torch.zeros(highest - len(old), old.shape[1])])
        vectors[piece.rows] = piece.vectors
        for row, owner in zip(piece.rows.tolist(), piece.ids.to_pylist(), strict=True):
            owners[row] = owner
        table = TableVectors([{"vector": vectors}], highest, highest, old.shape[1])
        self.plain.vectors = {**self.plain.vectors, piece.table: table}
        lookup = IdLookup(piece.table, pa.array(owners[1:], pa.string()))
        self.plain.ids = {**self.plain.ids, piece.table: lookup}


def _owners(ids: IdLookup) -> list[str | None]:
    """Who owns rows 1, 2, ..."""
    rows = ids.rows(ids.ids).tolist()
    by_row = dict(zip(rows, ids.ids.to_pylist(), strict=True))
    return [by_row.get(row) for row in range(1, max(rows, default=0) + 1)]


@dataclass(frozen=True, eq=False)
class Case:
    """A request, and the rows that it is about."""

    body: dict[str, Any]
    rows: pa.Table


def cases(made: Config, sizes: list[int], *items: str) -> list[Case]:
    """Requests of so many items each, of test rows; `items` take the places of the first ones of each."""
    rows = pa.concat_tables(raw_rows(made, Encoder.load(made, Path(made.run) / "encoder"), "test", 10**6))
    rows = rows.drop_columns(["label"])
    found, start = [], 0
    for size in sizes:
        some = [rows.slice((start + k) % len(rows), 1).to_pylist()[0] for k in range(size)]
        start += size
        for row, item in zip(some, items, strict=False):
            row["item_id"] = item
        shared = {name: value for name, value in some[0].items() if name not in ITEM}
        whole = [{**row, **shared} for row in some]
        body = {
            "user": {name: shared[name] for name in USER},
            "items": [{name: row[name] for name in ITEM} for row in whole],
            "context": {name: value for name, value in shared.items() if name not in USER},
        }
        found.append(Case(body, pa.Table.from_pylist(whole, rows.schema)))
    return found


@dataclass(frozen=True, eq=False)
class Client:
    """Asks a server in this process."""

    address: str
    server: Server
    pool: urllib3.PoolManager

    def post(self, body: Any, **headers: str) -> urllib3.BaseHTTPResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.pool.request("POST", f"{self.address}/score", body=data, headers=headers, retries=False)

    def get(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        return self.pool.request("GET", f"{self.address}{path}", headers=headers, retries=False)

    def score(self, case: Case) -> dict[str, Any]:
        answer = self.post(case.body)
        assert answer.status == 200, answer.data
        return answer.json()

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").data.decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def until(self, what: Any, seconds: float = 20.0) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)

    def until_delta(self, number: int) -> None:
        self.until(lambda: self.get("/ready").json()["version"] == replace(VERSION, delta=number).name)


@contextmanager
def serving(made: Config) -> Iterator[Client]:
    """A server over a real socket, its event loop in a thread."""
    server = server_of(made)
    running = uvicorn.Server(uvicorn.Config(server.app, port=0, log_level="warning", access_log=False, ws="none"))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.005)
        port = running.servers[0].sockets[0].getsockname()[1]
        yield Client(f"http://127.0.0.1:{port}", server, urllib3.PoolManager(maxsize=64, timeout=20))
    finally:
        running.should_exit = True
        thread.join()


def copied(home: Path, to: Path, **serving: Any) -> Config:
    """A run of its own."""
    shutil.copytree(home / "run", to / "run")
    return config(home, to / "run", **serving)
