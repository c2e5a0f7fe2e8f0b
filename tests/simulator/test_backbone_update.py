"""Simulated interactions of planted blocks become vectors of cold items, and move no other vector."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.backbones.graph import Graph
from recsys.backbones.train import train
from recsys.config import Config
from recsys.config_simulator import BackboneUpdate, Simulator
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.evaluate.vectors import Vectors, read_vectors
from simulator.backbone_update import Mode, update
from tests.backbones import planted

ALONE = Ranks(0, 1, 1, torch.device("cpu"))
EVEN = [user for k, user in enumerate(planted.USERS) if k % 2 == 0]
PLAYED = planted.COLD[:-1]
"""Of these, users of the even block qualify for the first three and of the odd block for the others."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.write(tmp_path_factory.mktemp("planted") / "data")


def config(data: Path, run: Path, kind: str) -> Config:
    made = planted.config(data, run, kind=kind, epochs=10, cold_scales=[1.0])
    return replace(made, simulator=Simulator(backbone=BackboneUpdate(start="mean")))


def simulate(path: Path, items: list[str] = PLAYED, users: list[str] = planted.USERS[:24]) -> Path:
    """All users are judged for each item; those of one block say Yes."""
    user, item = np.tile(users, len(items)), np.repeat(items, len(users))
    even = np.isin(user, EVEN) == np.isin(item, planted.COLD[:3])
    yes = np.where(even, 0.9, 0.2).astype(np.float32)
    rows = {"user_id": user, "item_id": item, "filter": yes, "yes": yes, "qualified": even}
    pq.write_table(pa.table(rows), path)
    return path


def read(folder: Path) -> Vectors:
    return read_vectors(folder, pa.array(planted.USERS), pa.array(planted.WARM + planted.COLD))


def lead(found: Vectors) -> np.ndarray:
    """[cold] by how much the block that qualified prefers each item, on average, and the other block does not."""
    scores = found.users @ found.items[len(planted.WARM) :].T
    even = np.arange(len(planted.USERS)) % 2 == 0
    gap = scores[even].mean(axis=0) - scores[~even].mean(axis=0)
    return gap * np.where(np.arange(len(planted.COLD)) < 3, 1, -1)


@pytest.mark.parametrize(
    ("kind", "mode"), [("mf", "frozen"), ("lightgcn", "frozen"), ("lightgcn", "propagate"), ("ngcf", "propagate")]
)
def test_cold_items_go_to_the_users_who_qualified_and_nothing_else_moves(
    data: Path, tmp_path: Path, kind: str, mode: Mode
) -> None:
    asked, warm = config(data, tmp_path / "run", kind), len(planted.WARM)
    before = read(train(asked, ALONE))
    folder = update(asked, simulate(tmp_path / "simulated.parquet"), mode, ALONE)
    found = read(folder)
    assert folder == tmp_path / "run" / "backbone" / kind / "simulated" / mode
    assert np.array_equal(found.users, before.users) and np.array_equal(found.items[:warm], before.items[:warm])
    assert lead(found)[:-1].min() > 0.05 and abs(lead(found)[-1]) < 0.25 * lead(found)[:-1].min()
    told = json.loads((folder / "about.json").read_text())
    assert (told["qualified"], told["scale"]) == (5 * 12, 1.0)


def test_an_item_that_nobody_was_asked_about_stays_at_the_warm_mean(data: Path, tmp_path: Path) -> None:
    asked = config(data, tmp_path / "run", "mf")
    before, graph = read(train(asked, ALONE)), Graph.read(data)
    found = read(update(asked, simulate(tmp_path / "simulated.parquet"), "frozen", ALONE))
    mean = np.average(before.items[: graph.warm], axis=0, weights=graph.degrees()[1][: graph.warm])
    np.testing.assert_allclose(found.items[-1], mean, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_joint_training_goes_on_from_the_trained_weights(data: Path, tmp_path: Path, kind: str) -> None:
    asked = config(data, tmp_path / "run", kind)
    before = read(train(asked, ALONE))
    folder = update(asked, simulate(tmp_path / "simulated.parquet"), "joint", ALONE)
    found = read(folder)
    assert lead(found)[:-1].min() > 0.05
    assert 0 < np.abs(found.users - before.users).max() < 0.5 * np.abs(before.users).max()
    again = read(update(asked, tmp_path / "simulated.parquet", "joint", ALONE))  # the checkpoint is at its end
    assert np.array_equal(found.items, again.items)


def test_what_cannot_be_is_refused(data: Path, tmp_path: Path) -> None:
    asked = config(data, tmp_path / "run", "mf")
    simulated = simulate(tmp_path / "simulated.parquet")
    with pytest.raises(InputError, match="expected vectors in"):
        update(asked, simulated, "frozen", ALONE)
    with pytest.raises(InputError, match="no checkpoint: train the backbone first"):
        update(asked, simulated, "joint", ALONE)
    train(asked, ALONE)
    with pytest.raises(InputError, match="kind=mf propagates nothing"):
        update(asked, simulated, "propagate", ALONE)
    warm = simulate(tmp_path / "warm.parquet", [planted.WARM[0]])
    with pytest.raises(InputError, match=f"'{planted.WARM[0]}' is no cold item"):
        update(asked, warm, "frozen", ALONE)
