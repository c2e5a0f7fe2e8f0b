from dataclasses import replace

import numpy as np
import pytest

from recsys.config import Label
from recsys.data import labels
from recsys.errors import InputError
from tests.data.logs import random_log


def test_liked_is_a_threshold_on_the_value() -> None:
    log = random_log()
    assert (labels.of_rows(log, Label(rule="liked", threshold=5)) == (log.value == 5)).all()
    gap = replace(log, value=np.where(np.arange(len(log.value)) == 3, np.nan, log.value).astype(np.float32))
    with pytest.raises(InputError, match=r"no value in 1 of \d+ rows \(first: row 3\)"):
        labels.of_rows(gap, Label(rule="liked"))


def test_column_needs_a_label() -> None:
    log = random_log()
    assert (labels.of_rows(log, Label(rule="column")) == log.label).all()
    with pytest.raises(InputError, match="has no label column"):
        labels.of_rows(replace(log, label=None), Label(rule="column"))


def test_observed_draws_unseen_items_of_the_same_pool() -> None:
    log = random_log()
    items = log.items.num_rows
    pool = np.where(np.arange(items) < 30, 0, 1).astype(np.int8)
    pool[::10] = -1
    rows = np.flatnonzero(pool[log.item] >= 0)
    rule = Label(rule="observed", negatives=3)
    asked, missed = labels.examples(rows, log, labels.of_rows(log, rule), rule, pool, seed=1)
    drawn = asked.drawn
    assert (asked.label == ~drawn).all() and (~drawn).sum() == len(rows)
    seen = set(zip(log.user.tolist(), log.item.tolist(), strict=True))
    pairs = zip(log.user[asked.row[drawn]].tolist(), asked.item[drawn].tolist(), strict=True)
    assert not seen & set(pairs)
    assert (pool[asked.item[drawn]] == pool[log.item[asked.row[drawn]]]).all()
    assert drawn.sum() + missed == 3 * len(rows)
    again, _ = labels.examples(rows, log, labels.of_rows(log, rule), rule, pool, seed=1)
    other, _ = labels.examples(rows, log, labels.of_rows(log, rule), rule, pool, seed=2)
    assert (again.item == asked.item).all() and (other.item[other.drawn][:50] != asked.item[drawn][:50]).any()


def test_observed_gives_up_on_a_user_who_has_seen_everything() -> None:
    log = random_log()
    log = replace(
        log,
        user=np.zeros(len(log.user), np.int32),
        item=(np.arange(len(log.user)) % log.items.num_rows).astype(np.int32),
    )
    rule = Label(rule="observed")
    pool = np.zeros(log.items.num_rows, np.int8)
    asked, missed = labels.examples(np.arange(50), log, labels.of_rows(log, rule), rule, pool, seed=1)
    assert missed == 50 and len(asked.row) == 50


def test_history_of_observed_tells_likes_by_value() -> None:
    log = random_log()
    rule = Label(rule="observed", threshold=5)
    assert (labels.liked(log, rule, labels.of_rows(log, rule)) == (log.value == 5)).all()
    unknown = replace(log, value=np.full(len(log.value), np.nan, np.float32))
    assert (labels.liked(unknown, rule, labels.of_rows(log, rule)) == 1).all()
