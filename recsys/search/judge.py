"""What a trial is worth: one number, of rows that it was not trained on."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.data.schema import read_info
from recsys.errors import InputError
from recsys.evaluate import metrics
from recsys.evaluate.scores import Rows, read_rows, read_scores
from recsys.evaluate.segments import scored_items


def value(dataset: Path, split: str, scores: Path, metric: str, exposure: int = 0, new: bool = False) -> float:
    """`auc`, `gauc` or `logloss` of a split's scores.

    new: of the rows of the scored new items alone.

    Raises:
        InputError: a file that cannot be read, or rows that the metric says nothing of, as those of one class.
    """
    rows = read_rows(dataset, split)
    score = read_scores(scores, len(rows.label), split, read_info(dataset).fingerprint, exposure)
    chosen = scored_items(dataset, rows.items)[rows.item] if new else np.ones(len(score), bool)
    found = _value(rows, score, chosen, metric)
    if not math.isfinite(found):
        rest = "rows of both classes of one user at least" if metric == "gauc" else "rows of both classes"
        raise InputError(f"{dataset}: search.metric={metric} of split {split!r} is no number: expected {rest}")
    return found


def _value(rows: Rows, score: NDArray[np.float32], chosen: NDArray[np.bool_], metric: str) -> float:
    score, label = score[chosen], rows.label[chosen]
    if metric == "logloss":
        return metrics.log_loss(score, label)
    if metric == "auc":
        return metrics.auc(metrics.rank(score, label))
    return metrics.gauc(metrics.rank(score, label, rows.user[chosen])).weighted
