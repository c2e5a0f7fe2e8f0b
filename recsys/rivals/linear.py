"""Logistic regression on sparse one-hot ids, categories, values and history, beside the dense tabular features.

Columns: each code (unknown has none), each value of a multi-valued feature (mean-weighted), each history item once for
liked and once for other ones (weighted `history_weight` / sqrt(count)), and the standardised numbers.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recsys.data.encode import ITEM
from recsys.data.jagged import Jagged
from recsys.rivals.rows import Scored
from recsys.rivals.tabular import Layout, Table, Tabular

MOST_ITERATIONS = 300


@dataclass(frozen=True)
class Columns:
    """How a table becomes a sparse matrix: fitted moments and the two weights of the grid."""

    layout: Layout
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    history_weight: float
    numbers_weight: float

    def matrix(self, table: Table) -> sparse.csr_matrix:
        """[N, columns] float32."""
        layout, n = self.layout, len(table.label)
        one_each = np.arange(n + 1)
        parts = [
            _hot(Jagged(codes, one_each), size, 1.0)
            for codes, (_, size) in zip(table.codes.T, layout.codes, strict=True)
        ]
        parts += [_hot(values, size, 1.0, 1.0) for values, (_, size) in zip(table.multi, layout.multi, strict=True)]
        if self.history_weight:
            size = dict(layout.codes)[ITEM]
            parts += [_hot(_chosen(table, side), size, self.history_weight, 0.5) for side in (True, False)]
        if self.numbers_weight:
            parts.append(sparse.csr_matrix((table.numbers - self.mean) / self.std * self.numbers_weight))
        return sparse.hstack(parts, format="csr", dtype=np.float32)


@dataclass(frozen=True)
class Linear:
    """A trained logistic regression."""

    model: LogisticRegression
    columns: Columns
    tabular: Tabular
    valid_auc: float

    def scores(self, split: str) -> Iterator[Scored]:
        """Row ids and probabilities of a split, one row group at a time."""
        for part in self.tabular.parts(split):
            yield part.row_id, _probability(self.model, self.columns.matrix(part))


def train(tabular: Tabular, train: Table, valid: Table, params: dict[str, Any], seed: int) -> Linear:
    """Fit by L-BFGS until it converges (or `MOST_ITERATIONS`).

    params: C (inverse L2), history_weight and numbers_weight (0 leaves the columns out).
    """
    std = train.numbers.std(0)
    columns = Columns(
        tabular.layout,
        train.numbers.mean(0),
        np.where(std > 1e-6, std, 1.0).astype(np.float32),
        params["history_weight"],
        params["numbers_weight"],
    )
    model = LogisticRegression(C=params["C"], max_iter=MOST_ITERATIONS, tol=1e-4, random_state=seed)
    with warnings.catch_warnings():
        # The last iterations move no validation AUC; the limit is stated above.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(columns.matrix(train), train.label)
    auc = roc_auc_score(valid.label, _probability(model, columns.matrix(valid)))
    return Linear(model, columns, tabular, float(auc))


def _probability(model: LogisticRegression, matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    return model.predict_proba(matrix)[:, 1].astype(np.float64)


def _chosen(table: Table, liked: bool) -> Jagged:
    """The history items that were liked, or those that were not."""
    chosen = (table.liked > 0) == liked
    ends = np.concatenate([[0], np.cumsum(chosen)])
    return Jagged(table.history.values[chosen], ends[table.history.offsets])


def _hot(values: Jagged, size: int, weight: float, power: float = 0.0) -> sparse.csr_matrix:
    """[n, size] with weight / (number of values)^power at each value; the unknown value 0 has no column of its own."""
    lengths = values.lengths
    each = np.repeat(weight / np.maximum(lengths, 1) ** power, lengths).astype(np.float32)
    each[values.values == 0] = 0.0
    made = sparse.csr_matrix((each, values.values, values.offsets), shape=(len(lengths), size))
    made.eliminate_zeros()
    return made
