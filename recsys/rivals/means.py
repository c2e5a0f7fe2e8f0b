"""The floor: logit of the smoothed user mean plus logit of the smoothed item mean, counted on training rows alone.

    score = sigmoid(logit(user mean) + logit(item mean) - logit(global mean))

The last term is the same for all rows: it changes no AUC and makes the score a probability. A mean of n labels is
smoothed as (positives + strength * global mean) / (n + strength), so an unknown user or item has the global mean.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score

from recsys.data.ids import IdMap
from recsys.data.schema import split_files
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.rivals.rows import Doubles, Scored, logit, sigmoid
from recsys.storage import Location


@dataclass(frozen=True)
class Tally:
    """Positives and rows by raw id; entry 0 of both arrays ([ids + 1] float64) is for an id that was not seen."""

    index: IdMap
    positives: Doubles
    rows: Doubles

    def mean(self, ids: pa.ChunkedArray, prior: float, strength: float) -> Doubles:
        """[n] smoothed means of raw ids; `prior` for an id that was not seen."""
        known = self.index.rows(ids)
        return (self.positives[known] + strength * prior) / np.maximum(self.rows[known] + strength, 1e-9)


@dataclass(frozen=True)
class Means:
    """Tallies of the training rows; `rate` is their share of positives."""

    users: Tally
    items: Tally
    rate: float

    def score(self, table: pa.Table, user_strength: float, item_strength: float) -> Doubles:
        """[n] probabilities of rows with columns user_id and item_id."""
        user = self.users.mean(table["user_id"], self.rate, user_strength)
        item = self.items.mean(table["item_id"], self.rate, item_strength)
        edge = 1e-6  # only a strength of 0 lets a mean reach 0 or 1
        return sigmoid(
            logit(np.clip(user, edge, 1 - edge)) + logit(np.clip(item, edge, 1 - edge)) - logit(np.array(self.rate))
        )


def fit(dataset: Location, exposure: int = 0) -> Means:
    """Count users and items over split=train, in a stream.

    exposure: the kept rows of each new item (`feedback`, rank 1 to `exposure`) count for its item mean; they count for
        no user and not for the global mean, so that warm rows score the same at every exposure.

    Raises:
        InputError: no training rows, or training labels of one class only.
    """
    users, items = _Counter("user_id"), _Counter("item_id")
    for table in _tables(dataset, "train", ["user_id", "item_id", "label"]):
        users.add(table)
        items.add(table)
    total = users.totals()
    if not 0 < total[0] < total[1]:
        raise InputError(f"{dataset}: split 'train' needs rows of both labels, found {total[0]} of {total[1]} positive")
    if exposure:
        for table in _tables(dataset, "feedback", ["item_id", "label", "rank"]):
            items.add(table.filter(pc.less_equal(table["rank"], exposure)))
    return Means(users.tally(), items.tally(), total[0] / total[1])


def scores(means: Means, dataset: Location, split: str, user_strength: float, item_strength: float) -> Iterator[Scored]:
    """Row ids and probabilities of a split, one row group at a time."""
    first = 0
    for table in _tables(dataset, split, ["user_id", "item_id"]):
        yield np.arange(first, first + table.num_rows), means.score(table, user_strength, item_strength)
        first += table.num_rows


def labels(dataset: Location, split: str) -> Doubles:
    """[N] labels of a split, in row id order."""
    return np.concatenate([table["label"].to_numpy() for table in _tables(dataset, split, ["label"])]).astype(
        np.float64
    )


def auc(label: Doubles, scored: Iterable[Scored]) -> float:
    """AUC of scores in row id order."""
    return float(roc_auc_score(label, np.concatenate([probability for _, probability in scored])))


def _tables(dataset: Location, split: str, columns: list[str]) -> Iterator[pa.Table]:
    files = split_files(dataset, split)
    if not files:
        raise InputError(f"{dataset}: split {split!r} has no files")
    for path in files:
        yield from (table for _, table in read_groups(path, columns))


class _Counter:
    """Positives and rows by raw id, merged as they come: memory grows with the distinct ids."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._merged: pa.Table | None = None

    def add(self, table: pa.Table) -> None:
        part = table.group_by(self.key).aggregate([("label", "sum"), ("label", "count")])
        part = part.select([self.key, "label_sum", "label_count"])
        if self._merged is not None:
            both = pa.concat_tables([self._merged, part]).group_by(self.key)
            part = both.aggregate([("label_sum", "sum"), ("label_count", "sum")])
            part = part.select([self.key, "label_sum_sum", "label_count_sum"])
            part = part.rename_columns([self.key, "label_sum", "label_count"])
        self._merged = part

    def totals(self) -> tuple[int, int]:
        """Positives and rows."""
        if self._merged is None:
            return 0, 0
        return pc.sum(self._merged["label_sum"]).as_py() or 0, pc.sum(self._merged["label_count"]).as_py() or 0

    def tally(self) -> Tally:
        assert self._merged is not None
        ids = self._merged[self.key].combine_chunks()
        n = len(ids)
        index = IdMap(self.key, ids, np.zeros(n, np.int64), n + 1)
        columns = [self._merged[name].to_numpy().astype(np.float64) for name in ("label_sum", "label_count")]
        return Tally(index, *(np.concatenate([[0.0], column]) for column in columns))
