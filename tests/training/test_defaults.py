"""Training by the defaults, step by step, as it was before it had warm-up, clipping, groups and the rest."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recsys.config import Config
from recsys.distributed import process_group
from recsys.train import train
from tests import wide
from tests.ranks import run_ranks

LOSS = [0.691332, 0.694097, 0.679693, 0.684439, 0.692126, 0.691061, 0.240014]
LOSS += [0.678307, 0.687217, 0.688017, 0.679514, 0.682370, 0.691049, 0.237523]
VALID = [1.002169, 1.001191, 1.000748, 1.000888, 1.000221, 0.999943, 0.999881]
VALID += [0.999651, 0.999446, 0.999454, 0.999284, 0.999241, 0.999296, 0.999280]
"""Written down by the loop without any of those settings, with dropout and hidden ids, on two ranks."""


def train_once(made: Config) -> None:
    with process_group() as ranks:
        train(made, ranks)


def test_the_defaults_train_as_they_always_have(tmp_path: Path) -> None:
    features = [each if each.get("kind") == "dense" else {**each, "sharding": "row_wise"} for each in wide.FEATURES]
    made = wide.config(
        wide.write(tmp_path / "data"),
        tmp_path / "run",
        features=features,
        item_sharding="row_wise",
        model={"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4, "dropout": 0.3},
        train={
            "batch_size": 16,
            "shuffle_rows": 64,
            "epochs": 2,
            "evals_per_epoch": 7,
            "patience": 99,
            "hide_ids": 0.2,
        },
    )
    run_ranks(2, train_once, made)
    events = EventAccumulator(str(tmp_path / "run" / "logs")).Reload()
    for tag, expected in (("train/loss", LOSS), ("valid/ne", VALID)):
        # To the bit on the machine that wrote them down; other processors round otherwise.
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(expected, abs=2e-5)
