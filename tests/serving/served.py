"""A small run with proxies in its ID slot, exported; a server of it in this process; and what plain scoring says."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.serving.app import Server
from recsys.serving.run import server_of
from recsys.tables import checkpoint, content, service
from recsys.tables.bundle import Bundle
from recsys.tables.checkpoint import Progress
from recsys.tables.export import export
from recsys.tables.piece import Audience, Piece
from recsys.tables.probe import raw_rows
from recsys.tables.version import Version
from recsys.train import build, fitted
from tests import wide
from tests.tables.test_item_content import config as of_place

VERSION = Version("tables", "run", 1)
USER = ("user_id", "gender", "age", "history", "history_label")
ITEM = ("item_id", "genres", "year")


def config(home: Path, run: Path | None = None, **serving: Any) -> Config:
    made = of_place(home, "slot", layers=True)
    model = replace(made.model, init_std=0.5, spare=1.0)
    return replace(made, run=str(run or home / "run"), model=model, serving=Serving(port=0, poll=0.02, **serving))


def write_run(made: Config, int8: bool = False) -> None:
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
        export(made, ranks, int8, part_rows=7)


def publish(
    made: Config, table: str, rows: dict[int, str | None], seed: int, audience: Audience = "both", evict: bool = False
) -> int:
    """Vectors drawn for rows of a table, under these owners, through the run's log; the delta's number."""
    order = sorted(rows)
    dim = Bundle.load(Path(made.run) / "export", verify=False, mapped=True).told["tables"][table]["dim"]
    vectors = torch.randn(len(order), dim, generator=torch.Generator().manual_seed(seed))
    ids = pa.array([rows[row] for row in order], pa.string())
    piece = Piece.of(table, torch.tensor(order), ids, vectors, "test", VERSION, audience=audience)
    delta = service.publish(Path(made.run), lambda: [piece], evict=evict)
    assert delta
    return delta.last


def ids_of(made: Config, table: str = "item_id") -> IdMap:
    return IdMap.load(Path(made.run) / "encoder" / f"{table}.parquet")


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


def plain(made: Config) -> Bundle:
    """The bundle on disk, which the run has brought up to its log: what it scores is what must be served."""
    return Bundle.load(Path(made.run) / "export", verify=False)


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


def copy(home: Path, to: Path, **serving: Any) -> Config:
    """A run of its own."""
    shutil.copytree(home / "run", to / "run")
    return config(home, to / "run", **serving)
