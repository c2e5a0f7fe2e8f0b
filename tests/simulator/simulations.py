"""The tiny run with free rows, and simulated interactions of its new items."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.config_simulator import Simulator, Update
from recsys.data.labels import describe
from recsys.data.schema import read_info, split_files, write_info
from recsys.distributed import process_group
from recsys.tables.export import export
from tests import arrived, tiny

SPARE = 6


def config(home: Path = Path(), **update: Any) -> Config:
    """That of `tests.arrived` with `SPARE` free rows in the item table; `update` are keys of `simulator.update`."""
    made = arrived.config(home)
    update = {"weight": 1.0, "tolerance": 1e-9, **update}
    split = replace(made.data.split, exposures=[0, 2, arrived.KEPT])
    return replace(
        made,
        data=replace(made.data, split=split),
        item_capacity=tiny.ITEMS - tiny.NEW + 1 + SPARE,
        simulator=Simulator(update=Update(**update)),
    )


def make(home: Path) -> None:
    """The dataset, a run, its export, and simulated interactions of 3 of its 4 new items, one without a No."""
    data = arrived.write(home) / "data"
    write_info(replace(read_info(data), label=describe(config().data.label)), data)
    with inside(home), process_group() as ranks:
        arrived.run(config(), ranks)
        export(config(), ranks)
        simulate(Path("run/simulator/simulated"))


def simulate(folder: Path, seed: int = 0, items: int = 3, listed: int = 12) -> None:
    """Write simulated.parquet: `listed` users for each item, all but the last two judged."""
    order = np.random.default_rng(seed)
    files = split_files(Path("data"), "train")
    users = np.unique(np.concatenate([pq.read_table(file)["user_id"].to_numpy() for file in files]))
    chosen = np.concatenate([order.choice(users, listed, replace=False) for _ in range(items)])
    yes = order.random(items * listed).astype(np.float32)
    yes[: listed // 2] = 0.9
    judged = np.tile(np.arange(listed) < listed - 2, items)
    qualified = (yes > 0.4) & judged
    qualified[-listed:] = judged[-listed:]
    rows = {
        "user_id": chosen.tolist(),
        "item_id": pa.array(np.repeat(arrived.NEW.to_pylist()[:items], listed).tolist()),
        "filter": np.zeros(len(yes), np.float32),
        "yes": pa.array(yes, mask=~judged),
        "qualified": qualified,
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), folder / "simulated.parquet", row_group_size=13)


@contextmanager
def inside(home: Path) -> Iterator[None]:
    """The working directory, so that a copy of the run is of the same config."""
    before = Path.cwd()
    os.chdir(home)
    try:
        yield
    finally:
        os.chdir(before)
