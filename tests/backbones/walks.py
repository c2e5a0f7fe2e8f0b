"""A log of users who walk around a circle of items, a step or two a second, prepared as leave-one-out."""

from pathlib import Path

import numpy as np

from recsys.config import Config, Data, Evaluate, Label, Split
from recsys.config_backbone import Backbone, Kind
from recsys.data.prepare import write as prepare
from recsys.data.splits import Rows
from tests.data import logs

USERS, ITEMS, STEPS = 60, 30, 14


def rows(seed: int = 0) -> Rows:
    """Each user's steps from a place of their own, and some rows of label 0."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(USERS), STEPS)
    step = np.tile(np.arange(STEPS), USERS)
    item = (random.integers(ITEMS, size=USERS)[user] + step) % ITEMS
    time = np.sort(random.integers(2 * STEPS, size=(USERS, STEPS)), axis=1).ravel()
    label = (random.random(len(user)) < 0.8).astype(np.int8)
    return Rows(user=user.astype(np.int32), item=item.astype(np.int32), time=time, label=label, items=ITEMS)


def write(path: Path, on: Rows) -> Path:
    """The dataset directory; returns its path."""
    path.mkdir(parents=True)
    data = Data(path=str(path), label=Label(rule="column"), split=Split(rule="leave-one-out"), row_group=64)
    prepare(logs.random_log(on), data, path)
    return path


def config(path: Path, run: Path, kind: Kind, **backbone: object) -> Config:
    """A config that trains on it within seconds."""
    options = {"width": 16, "layers": 1, "dropout": 0.0, "lr": 0.02, "batch": 16, "epochs": 20, "history": 8}
    return Config(
        run=str(run),
        data=Data(path=str(path)),
        evaluate=Evaluate(replicates=2, min_rows=1, min_users=1, negatives=10, sampled_k=[1, 2]),
        backbone=Backbone(kind=kind, **(options | backbone)),  # type: ignore[arg-type]
    )
