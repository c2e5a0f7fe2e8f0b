"""A tiny run that has been through every stage, as far as a report reads of it; scores and tables are real."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.distributed import process_group
from recsys.evaluate import results
from recsys.evaluate.pointwise import evaluate
from recsys.report.write import write
from tests import arrived

WORDS = f"config.yaml run={'x' * 300}"
"""Config and overrides, as typed; one that no line holds."""
HOSTILE = '<script>alert("$x$")</script>'
"""Also no formula: matplotlib reads dollar signs as one."""


def config(home: Path) -> Config:
    """Items with a training row have an ID that proxies are compared with."""
    made = arrived.config(home)
    return replace(made, proxy=replace(made.proxy, align=replace(made.proxy.align, tau=1)))


def run(home: Path) -> Path:
    """The run's folder, with base's scores and tables and the results of three systems, one of them hostile."""
    arrived.write(home)
    with process_group() as ranks:
        arrived.run(arrived.config(home), ranks)
    folder = home / "run"
    for name, shift in (("better", 0.2), ("worse", -0.2)):
        scores(home, folder / f"{name}.parquet", shift)
    systems = {
        "base": folder / "scores" / "test",
        "idproxy": folder / "better.parquet",
        HOSTILE: folder / "worse.parquet",
    }
    found = evaluate(arrived.config(home), systems)
    results.save(found | {"dataset": f"tiny {HOSTILE}"}, folder / "results.json")
    return folder


def report(home: Path) -> Path:
    """The page of the run, of base and of two systems that lie elsewhere."""
    named = {"idproxy": home / "run" / "better.parquet", HOSTILE: home / "run" / "worse.parquet"}
    return write(config(home), WORDS, named)


def scores(home: Path, path: Path, shift: float) -> None:
    """Base's scores, those of positives shifted."""
    table = pa.concat_tables(
        pq.read_table(file) for file in sorted((home / "run" / "scores" / "test").glob("*.parquet"))
    )
    files = sorted((home / "data" / "interactions" / "split=test").glob("*.parquet"))
    label = pa.concat_tables(pq.read_table(file, columns=["label"]) for file in files)["label"].to_numpy()
    moved = np.clip(table["score"].to_numpy() + shift * label[table["row_id"].to_numpy()], 0, 1)
    pq.write_table(table.set_column(1, "score", pa.array(moved)), path)


def stages(home: Path) -> None:
    """What the other stages leave: proxies, a simulation with its quality, curves."""
    folder, random = home / "run", np.random.default_rng(0)
    ids = [f"item {k:02d}" for k in range(30)]
    (folder / "proxy" / "vectors").mkdir(parents=True)
    coarse = {"item_id": ids, "vector": random.normal(size=(30, 8)).tolist()}
    pq.write_table(pa.table(coarse), folder / "proxy" / "vectors" / "coarse.parquet")
    simulated = folder / "simulator" / "simulated"
    simulated.mkdir(parents=True)
    pairs = {
        "item_id": ids[-4:] * 5,
        "yes": [0.9] * 12 + [0.1] * 6 + [None] * 2,
        "qualified": [True] * 12 + [False] * 8,
    }
    pq.write_table(pa.table(pairs), simulated / "simulated.parquet")
    quality = {"real_pair": [0.25, 0.1, 0.4], "chance": 0.05, "adoption": [0.667, 0.5, 0.8]}
    (simulated / "quality.json").write_text(json.dumps(quality))
    (simulated / "about.json").write_text(json.dumps({"seconds": 40.0, "items": 4}))
    retention(folder / "prompt" / "mf" / "code" / "retention.parquet")
    replayed(folder / "results.json")


def retention(path: Path, **changed: Any) -> None:
    """A curve of two systems."""
    path.parent.mkdir(exist_ok=True, parents=True)
    middle = np.array([0.73, 0.65, 0.7] * 2)
    columns = {"system": ["base"] * 3 + ["road"] * 3, "step": [20, 0, 8] * 2, "share": middle}
    pq.write_table(pa.table({**columns, "low": middle - 0.02, "high": middle + 0.02, **changed}), path)


def replayed(path: Path) -> None:
    """Results of two systems along a replay."""
    told = json.loads(path.read_text())
    seen = {f"seen={k}": {"auc": [value, value - 0.02, value + 0.02]} for k, value in ((16, 0.73), (0, 0.65), (8, 0.7))}
    for system in ("base", "road"):
        told["systems"].setdefault(system, {}).update(seen)
    path.write_text(json.dumps(told))
