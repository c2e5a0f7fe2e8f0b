"""Rows `serve-1`, `serve-8`, `serve-64` and `serve-delta`: a server as a process of its own, on a table of a million.

`serve-N`: requests a second of N clients, in a third process, each for one user with a full history and 32 items,
against the bare forward of the model at the same batch, which is N requests: tensors that are there already go through
the same program, in this process, while nobody asks. A turn is some seconds of each. `detail` tells the median and the
99th percentile of what a client waited, in milliseconds.

`serve-delta`: rows a second of a delta of 10,000 rows, from its first byte into the run's log to the first answer that
names it. The bound is a second.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import urllib3

from recsys.bench.bundle import saved
from recsys.bench.frame import Measured, median_ratio
from recsys.config import Config
from recsys.config_serving import Serving
from recsys.data.encode import ITEM, Encoder
from recsys.distributed import Ranks
from recsys.serving.load import Load
from recsys.serving.process import started
from recsys.serving.requests import Schema
from recsys.tables import log
from recsys.tables.bundle import Bundle
from recsys.tables.export import export
from recsys.tables.piece import Piece
from recsys.tables.probe import raw_rows
from recsys.tables.version import Version

CANDIDATES, BODIES = 32, 256
"""Items of a request, and distinct requests."""
ROUNDS, SECONDS, WARM_UP = 5, 3.0, 0.2
"""Seconds of a turn, and the share of them at whose start answers are left out."""
REQUIRED = 0.1
NAMED = 10_000


def measure_1(config: Config, ranks: Ranks) -> Measured:
    """Requests a second of one client. Collective over one rank."""
    return under_load(_exported(config, ranks), 1)


def measure_8(config: Config, ranks: Ranks) -> Measured:
    """Requests a second of 8 clients. Collective over one rank."""
    return under_load(_exported(config, ranks), 8)


def measure_64(config: Config, ranks: Ranks) -> Measured:
    """Requests a second of 64 clients. Collective over one rank."""
    return under_load(_exported(config, ranks), 64)


def under_load(config: Config, clients: int, rounds: int = ROUNDS, seconds: float = SECONDS) -> Measured:
    """Requests a second of an exported run."""
    bundle = Bundle.load(Path(config.run) / "export", mapped=True)
    bodies = _bodies(config, bundle)
    schema = Schema(bundle)
    table = schema.table([schema.parse(body) for body in (bodies * -(-clients // len(bodies)))[:clients]])
    tensors = bundle.tensors(table)
    rates: dict[str, list[float]] = {"ours": [], "the bare forward": []}
    waited: list[float] = []
    with started(config) as (_, address):
        for _ in range(rounds):
            with Load(address, bodies, clients, seconds) as load:
                pass
            found = [each for each in load.answers() if each.sent >= seconds * WARM_UP]
            if any(each.status != 200 for each in found):
                raise RuntimeError(f"the server answered {next(each for each in found if each.status != 200)}")
            rates["ours"].append(len(found) / (seconds - seconds * WARM_UP))
            waited += [1000 * each.seconds for each in found]
            rates["the bare forward"].append(clients * _rate(lambda: bundle.program(*tensors), seconds))
    p50, p99 = np.percentile(waited, [50, 99])
    detail = {"clients": clients, "items": CANDIDATES, "p50_ms": p50, "p99_ms": p99}
    return median_ratio(rates, "requests/s", REQUIRED, detail)


def measure_delta(config: Config, ranks: Ranks) -> Measured:
    """Rows a second until a delta is visible. Collective over one rank."""
    return visible(_exported(config, ranks), NAMED)


def visible(config: Config, named: int, rounds: int = ROUNDS) -> Measured:
    """Rows a second of deltas of `named` rows, in the log of an exported run."""
    run = Path(config.run)
    bundle = Bundle.load(run / "export", mapped=True)
    version, ids = Version(**bundle.told["origin"]), bundle.ids[ITEM]
    body = _bodies(config, bundle)[0]
    draw = torch.Generator().manual_seed(0)
    rates: dict[str, list[float]] = {"ours": [], "within a second": []}
    with started(config) as (_, address):
        pool = urllib3.PoolManager()
        for _ in range(rounds):
            rows = (torch.randperm(len(ids.ids), generator=draw)[:named] + 1).sort().values
            vectors = torch.randn(named, bundle.vectors[ITEM].dim, generator=draw)
            piece = Piece.of(ITEM, rows, ids.owners(rows), vectors, "bench", version)
            begin = time.perf_counter()
            version = replace(version, delta=log.append(run, [piece]).last)
            while (
                json.loads(pool.request("POST", f"http://{address}/score", body=body).data)["version"] != version.name
            ):
                time.sleep(0.005)
            rates["ours"].append(named / (time.perf_counter() - begin))
            rates["within a second"].append(float(named))
    return median_ratio(rates, "rows/s", 1.0, {"rows": named, "of": len(ids.ids)})


def _rate(work: Callable[[], object], seconds: float) -> float:
    """Calls a second."""
    with torch.inference_mode():
        begin, calls = time.perf_counter(), 0
        while (took := time.perf_counter() - begin) < seconds:
            work()
            calls += 1
    return calls / took


def _exported(config: Config, ranks: Ranks) -> Config:
    config = replace(saved(config, ranks), serving=Serving(port=0))
    export(config, ranks)
    return config


def _bodies(config: Config, bundle: Bundle) -> list[bytes]:
    """Requests of test rows' users, each for items drawn from all."""
    encoder = Encoder.load(config, Path(config.run) / "encoder")
    users = next(iter(raw_rows(config, encoder, "test", BODIES))).slice(0, BODIES).to_pylist()
    items = pq.read_table(Path(config.data.path) / "items.parquet")
    of = {feature.name: feature.of for feature in config.features}
    named = [name for name in items.column_names if name == "item_id" or of.get(name) == "item"]
    draw = np.random.default_rng(0)
    made = []
    for user in users:
        asked = items.select(named).take(draw.integers(0, len(items), CANDIDATES)).to_pylist()
        own = {name: user[name] for name in bundle.columns if of.get(name) == "user" or name.startswith("history")}
        context = {name: user[name] for name in bundle.columns if of.get(name) == "context"}
        made.append(json.dumps({"user": own, "items": asked, "context": context}).encode())
    return made
