"""What the search may choose from, for every system, in one place.

The first trial of a system is its default, what Optuna suggests from its space comes after; each system gets the same
number. The base's default is the config as it stands (`train.hide_ids` is never searched for it).
"""

from recsys import settings
from recsys.config import Config
from recsys.config_search import Range, Space
from recsys.trials.space import Params

BASE = "base"

DEFAULTS: dict[str, Params] = {
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

SPACES: dict[str, Space] = {
    BASE: {
        "train.lr": Range(low=0.002, high=0.01, log=True),
        "train.table_lr": Range(low=0.05, high=0.2, log=True),
        "train.table_weight_decay": [0.0, 1e-5, 1e-4],
        "train.hide_users": Range(low=0.0, high=0.8),
        "model.dim": [16, 32],
        "model.dropout": Range(low=0.0, high=0.2),
    },
    "means": {
        "user_strength": Range(low=1.0, high=40.0, log=True),
        "item_strength": Range(low=1.0, high=40.0, log=True),
    },
    "linear": {
        "C": Range(low=0.003, high=0.3, log=True),
        "history_weight": Range(low=0.0, high=1.0),
        "numbers_weight": Range(low=0.0, high=1.0),
    },
    "deepfm": {
        "dim": [8, 16, 32],
        "hidden": [[64], [128, 64], [256, 128]],
        "dropout": Range(low=0.2, high=0.6),
        "shared": [True, False],
        "optimizer": [["adam", 0.0005], ["adam", 0.001], ["adam", 0.002], ["adagrad", 0.01], ["adagrad", 0.03]],
        "table_decay": Range(low=1e-5, high=3e-4, log=True),
        "hide_ids": [0.0, 0.05],
        "batch_size": [1024, 2048],
    },
    "trees": {
        "native": ["none", "few", "all"],
        "learning_rate": Range(low=0.03, high=0.1, log=True),
        "num_leaves": Range(low=15, high=127, log=True),
        "min_data_in_leaf": Range(low=50, high=300, log=True),
        "feature_fraction": Range(low=0.4, high=1.0),
        "bagging_fraction": Range(low=0.6, high=1.0),
        "lambda_l2": Range(low=0.0, high=20.0),
    },
}


def default(system: str, config: Config) -> Params:
    """The system's first trial."""
    if system != BASE:
        return DEFAULTS[system]
    tree = settings.plain(config)
    return {key: settings.value_of(tree, key) for key in SPACES[BASE]}
