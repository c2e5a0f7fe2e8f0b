"""Gradient-boosted trees (LightGBM) on the tabular features, stopped early on validation AUC."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from recsys.rivals.rows import Scored
from recsys.rivals.tabular import Table, Tabular

MOST_ROUNDS, PATIENCE = 2000, 50
FEW = 256
"""native=few: a category of at most so many values is given to LightGBM as such, beside its out-of-fold mean."""


@dataclass(frozen=True)
class Trees:
    """Trained trees. `codes` are the columns of the codes that they read as categories."""

    booster: lgb.Booster
    tabular: Tabular
    codes: list[int]
    valid_auc: float

    def scores(self, split: str) -> Iterator[Scored]:
        """Row ids and probabilities of a split, one row group at a time."""
        for part in self.tabular.parts(split):
            yield part.row_id, np.asarray(self.booster.predict(_matrix(part, self.codes)), np.float64)


def train(tabular: Tabular, train: Table, valid: Table, params: dict[str, Any], seed: int) -> Trees:
    """Boost until validation AUC has not risen for `PATIENCE` rounds.

    params: LightGBM's own, and `native`: which ids are given as categories too: "none", "few" values, or "all".
    """
    options = dict(params)
    native = options.pop("native")
    limit = {"none": 0, "few": FEW, "all": 1 << 31}[native]
    codes = [k for k, (_, size) in enumerate(tabular.layout.codes) if size <= limit]
    names = [*tabular.layout.numbers, *(f"code {tabular.layout.codes[k][0]}" for k in codes)]
    numbers = len(tabular.layout.numbers)
    categories = list(range(numbers, numbers + len(codes)))
    options |= {"objective": "binary", "metric": "auc", "seed": seed, "deterministic": True, "force_row_wise": True}
    options |= {"verbosity": -1, "bagging_freq": 1, "first_metric_only": True}
    data = lgb.Dataset(
        _matrix(train, codes), train.label, feature_name=_plain(names), categorical_feature=categories, params=options
    )
    against = lgb.Dataset(_matrix(valid, codes), valid.label, reference=data, params=options)
    stop = lgb.early_stopping(PATIENCE, verbose=False)
    booster = lgb.train(options, data, MOST_ROUNDS, valid_sets=[against], valid_names=["valid"], callbacks=[stop])
    return Trees(booster, tabular, codes, float(booster.best_score["valid"]["auc"]))


def _matrix(table: Table, codes: list[int]) -> NDArray[np.float32]:
    return np.concatenate([table.numbers, table.codes[:, codes].astype(np.float32)], axis=1)


def _plain(names: list[str]) -> list[str]:
    """LightGBM takes no blanks or punctuation in a name."""
    return ["".join(c if c.isalnum() else "_" for c in name) for name in names]
