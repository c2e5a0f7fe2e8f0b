"""What the search may choose from, for every system, in one place.

The first trial of a system is its default, the others are drawn at random from its grid without repeats; each system
gets the same number. The base's default is the config as it stands (`train.hide_ids` is never searched for it).
"""

import itertools
import random
from typing import Any

Params = dict[str, Any]

BASE = "base"

DEFAULTS: dict[str, Params] = {
    BASE: {},
    "means": {"user_strength": 10.0, "item_strength": 10.0},
    "linear": {"C": 0.1, "history_weight": 0.3, "numbers_weight": 1.0},
    "deepfm": {
        "dim": 16,
        "hidden": [128, 64],
        "dropout": 0.4,
        "shared": False,
        "optimizer": ["adam", 0.001],
        "table_decay": 3e-5,
        "hide_ids": 0.0,
        "batch_size": 2048,
    },
    "trees": {
        "native": "few",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 100,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "lambda_l2": 5.0,
    },
}

GRIDS: dict[str, dict[str, list[Any]]] = {
    BASE: {
        "train.lr": [0.002, 0.005, 0.01],
        "train.table_lr": [0.05, 0.1, 0.2],
        "train.table_weight_decay": [0.0, 1e-5, 1e-4],
        "train.hide_users": [0.0, 0.3, 0.5, 0.8],
        "model.dim": [16, 32],
        "model.dropout": [0.0, 0.2],
    },
    "means": {
        "user_strength": [1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 40.0],
        "item_strength": [1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 40.0],
    },
    "linear": {
        "C": [0.003, 0.01, 0.03, 0.1, 0.3],
        "history_weight": [0.0, 0.1, 0.3, 1.0],
        "numbers_weight": [0.0, 0.3, 1.0],
    },
    "deepfm": {
        "dim": [8, 16, 32],
        "hidden": [[64], [128, 64], [256, 128]],
        "dropout": [0.2, 0.4, 0.6],
        "shared": [True, False],
        "optimizer": [["adam", 0.0005], ["adam", 0.001], ["adam", 0.002], ["adagrad", 0.01], ["adagrad", 0.03]],
        "table_decay": [1e-5, 3e-5, 1e-4, 3e-4],
        "hide_ids": [0.0, 0.05],
        "batch_size": [1024, 2048],
    },
    "trees": {
        "native": ["none", "few", "all"],
        "learning_rate": [0.03, 0.05, 0.1],
        "num_leaves": [15, 31, 63, 127],
        "min_data_in_leaf": [50, 100, 300],
        "feature_fraction": [0.4, 0.7, 1.0],
        "bagging_fraction": [0.6, 0.8, 1.0],
        "lambda_l2": [0.0, 5.0, 20.0],
    },
}


def configurations(system: str, budget: int, seed: int) -> list[Params]:
    """The system's default and then random draws from its grid, `budget` in all or as many as differ.

    A larger budget starts with the same configurations, so that a search can be extended.
    """
    grid = GRIDS[system]
    rest = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    random.Random(f"{system} {seed}").shuffle(rest)
    return [DEFAULTS[system], *(params for params in rest if params != DEFAULTS[system])][:budget]
