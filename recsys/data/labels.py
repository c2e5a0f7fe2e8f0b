"""What the ranker predicts: the log's own label, "liked, given seen" (a), or "would choose" (b).

Under (b), `observed`, every logged row is a positive and for each one `negatives` items are drawn uniformly among those
that its user never interacted with, at the positive's second and with its history and context. They are drawn from the
positive item's own pool: warm items for warm rows, scored new items for rows of scored new items, and so on. So a
held-out item is never a negative of training, and within a segment the label says nothing about how new an item is.
Negatives of feedback rows are new items too and carry the rank or phase of their positive: at every exposure n a new
item has n positives and, in the mean, n * negatives negatives.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.config import Label
from recsys.data.log import Codes, Labels, Log
from recsys.errors import InputError

_TRIES = 100

READS: dict[str, tuple[str, ...]] = {"column": (), "liked": ("threshold",), "observed": ("negatives", "threshold")}
"""The settings that a rule depends on; under `observed`, the threshold says what history holds as liked."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """M examples: which row of the log gives user, second, history and context; and the item and label asked about."""

    row: npt.NDArray[np.int64]
    item: Codes
    label: Labels
    drawn: npt.NDArray[np.bool_]
    """Whether the item was drawn and not logged (then `value` is null)."""


def describe(rule: Label) -> str:
    """The label in words, for dataset.yaml."""
    if rule.rule == "column":
        return "the log's own 0/1 label"
    if rule.rule == "liked":
        return f"value >= {rule.threshold:g} among seen pairs (liked, given seen)"
    return f"seen against {rule.negatives} sampled unseen (would choose)"


def of_rows(log: Log, rule: Label) -> Labels:
    """[N] the label of each logged row.

    Raises:
        InputError: the rule needs a column that the log does not have.
    """
    if rule.rule == "observed":
        return np.ones(len(log.time), np.int8)
    if rule.rule == "column":
        if log.label is None:
            raise InputError(f"data.label.rule=column: {log.source} has no label column; use liked or observed")
        return log.label
    _need_values(log)
    return (log.value >= rule.threshold).astype(np.int8)


def liked(log: Log, rule: Label, label: Labels) -> Labels:
    """[N] what history says of each row: its label; under `observed`, value >= threshold where the log has values."""
    if rule.rule == "observed" and len(log.value) and not np.isnan(log.value).any():
        return (log.value >= rule.threshold).astype(np.int8)
    return label


def _need_values(log: Log) -> None:
    missing = np.flatnonzero(np.isnan(log.value))
    if len(missing):
        raise InputError(
            f"data.label.rule=liked: {log.source} has no value in {len(missing)} of {len(log.value)} rows "
            f"(first: row {missing[0]}); use column or observed"
        )


def examples(
    rows: npt.NDArray[np.int64], log: Log, label: Labels, rule: Label, pool: npt.NDArray[np.int8], seed: int
) -> tuple[Examples, int]:
    """The given rows of the log as examples, and under `observed` the drawn ones after them.

    `pool` [I]: a negative comes from the pool of its positive's item; -1 is never drawn. Also returns how many
    negatives could not be drawn since their user has seen (nearly) all of the pool.
    """
    plain = Examples(row=rows, item=log.item[rows], label=label[rows], drawn=np.zeros(len(rows), bool))
    if rule.rule != "observed" or not rule.negatives:
        return plain, 0
    asked = np.repeat(rows, rule.negatives)
    drawn = _unseen(asked, log, pool, np.random.default_rng(seed))
    found = drawn >= 0
    asked, drawn = asked[found], drawn[found]
    return Examples(
        row=np.concatenate([rows, asked]),
        item=np.concatenate([plain.item, drawn]),
        label=np.concatenate([plain.label, np.zeros(len(drawn), np.int8)]),
        drawn=np.concatenate([plain.drawn, np.ones(len(drawn), bool)]),
    ), int(np.count_nonzero(~found))


def _unseen(
    rows: npt.NDArray[np.int64], log: Log, pool: npt.NDArray[np.int8], generator: np.random.Generator
) -> npt.NDArray[np.int32]:
    """[len(rows)] an item of the row's pool that its user never interacted with; -1 where none was found."""
    width = np.int64(len(pool))
    pasts = (log.past.user * width + log.past.item) if len(log.past.user) else np.zeros(0, np.int64)
    seen = np.unique(np.concatenate([log.user * width + log.item, pasts]))
    drawn = np.full(len(rows), -1, np.int32)
    for name in np.unique(pool[pool >= 0]):
        members = np.flatnonzero(pool == name).astype(np.int32)
        open_ = np.flatnonzero(pool[log.item[rows]] == name)
        for _ in range(_TRIES):
            if not len(open_):
                break
            candidate = members[generator.integers(len(members), size=len(open_))]
            key = log.user[rows[open_]] * width + candidate
            place = np.minimum(np.searchsorted(seen, key), len(seen) - 1)
            fresh = seen[place] != key
            drawn[open_[fresh]] = candidate[fresh]
            open_ = open_[~fresh]
    return drawn
