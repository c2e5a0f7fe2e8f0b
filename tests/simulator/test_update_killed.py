"""Killed at any moment of bringing learned rows into the tables: they are old or new, and new when asked again."""

import shutil
from pathlib import Path

import numpy as np
import torch

from recsys.coldrows.learned import Learned
from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.tables import checkpoint, log, manifest
from recsys.tables.bundle import Bundle
from recsys.tables.places import FORMAT
from recsys.tables.stored import StoredTensor
from simulator.update import update
from tests import crash
from tests.simulator import simulations

TABLE = "ranker.items.embeddings.item_id.weight"


def work(home: Path) -> None:
    """The whole command; rows and scores are there, so it publishes alone."""
    with simulations.inside(home), process_group() as ranks:
        update(simulations.config(), ranks)


def held() -> dict[str, bool]:
    """Whether checkpoint, id map and bundle have the learned rows; all of them, or none and what there was before."""
    rows = Learned.read(Path("run/simulator/simulated"))
    assert rows
    [path] = checkpoint.whole(Path("run/checkpoints"))
    manifest.verify(path, FORMAT)
    stored = (StoredTensor(path, TABLE).take(torch.arange(27, 30)) == rows.vectors).all(1)
    ids = IdMap.load(Path("run/encoder/item_id.parquet"))
    owners = np.isin(ids.rows(rows.items), [27, 28, 29])
    bundle = Bundle.load(Path("run/export"))
    bundle.check()
    assert stored.all() or not stored.any()
    assert owners.all() or not owners.any()
    return {"checkpoint": bool(stored.all()), "ids": bool(owners.all()), "bundle": bundle.told["origin"]["delta"] == 1}


def test_killed_while_it_publishes(here: Path) -> None:
    with process_group() as ranks:
        update(simulations.config(publish=False), ranks)
    assert not any(held().values())
    done = shutil.copytree(here, here.parent / "done")
    points = crash.points(done, work, done)
    between = next(point for point in points if "after rename" in point and "-> run/deltas/" in point)
    seen = set()
    for point in [between, *crash.chosen(points)]:
        home = shutil.copytree(here, here.parent / "killed")
        crash.kill(point, home, work, home)
        with simulations.inside(home):
            before = held()
            seen |= set(before.items())
        work(home)
        with simulations.inside(home):
            assert all(held().values()), point
            assert len(log.every(Path("run"))) == 1, (point, "it is published once")
        shutil.rmtree(home)
    assert seen >= {("checkpoint", False), ("bundle", False)}
