"""A dataset of two blocks: a user likes items of one, and of these a third is left for validation and for test each."""

from pathlib import Path

import numpy as np

from recsys.config import Config, Data, Evaluate, Floor
from recsys.config_backbone import Backbone
from tests.evaluate import likes

USERS = [f"u{k:02}" for k in range(60)]
WARM = [f"i{k:03}" for k in range(0, 240, 2)]
COLD = [f"i{k:03}" for k in range(1, 13, 2)]
"""Between the warm ones by id: valid's, then test's."""


def block(name: str) -> list[str]:
    """The items of a user's block."""
    return WARM[int(name[1:]) % 2 :: 2]


def rows(seed: int = 0) -> dict[str, list[likes.Row]]:
    """Each user's 60 items by thirds; also rows of label 0 in train, and positives of cold items in valid and test."""
    random = np.random.default_rng(seed)
    made: dict[str, list[likes.Row]] = {"train": [], "valid": [], "test": []}
    for user in USERS:
        for place, item in enumerate(random.permutation(block(user))):
            made[("train", "valid", "test")[place % 3]].append((user, str(item), 1))
        made["train"].append((user, str(random.choice(WARM)), 0))
        made["valid"].append((user, str(random.choice(COLD[:3])), 1))
        made["test"].append((user, str(random.choice(COLD[3:])), 1))
    made["train"] = [row for row in dict.fromkeys(made["train"]) if row[2] or (*row[:2], 1) not in made["train"]]
    return made


def write(path: Path) -> Path:
    """The dataset directory; returns its path."""
    likes.write(path, rows(), COLD)
    return path


def config(path: Path, run: Path, floor: Floor | None = None, **backbone: object) -> Config:
    """A config that trains on it within a second."""
    options = {"width": 8, "layers": 2, "lr": 0.02, "batch": 256, "hardest_of": 1, "epochs": 30, "patience": 30}
    return Config(
        run=str(run),
        data=Data(path=str(path)),
        evaluate=Evaluate(replicates=2, min_rows=1, min_users=1, negatives=2, top_k=[20]),
        floor=floor or Floor(),
        backbone=Backbone(**(options | backbone)),  # type: ignore[arg-type]
    )
