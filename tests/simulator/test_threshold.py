"""The threshold against a search by hand; its pairs are held out, and unseen."""

from pathlib import Path

import numpy as np
import pyarrow.dataset as pad
import pytest
from sklearn.metrics import balanced_accuracy_score

from recsys.errors import InputError
from simulator import threshold
from simulator.population import Population
from tests import tiny


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_and_no_lower_one_as_good(seed: int) -> None:
    random = np.random.default_rng(seed)
    label = random.random(60) < 0.4
    yes = np.round(random.random(60) + 0.3 * label, 1).astype(np.float32)
    found = threshold.choose(yes, label)
    accuracy = {least: balanced_accuracy_score(label, yes >= least) for least in np.unique(yes).tolist()}
    assert found.accuracy == pytest.approx(max(accuracy.values()))
    assert found.value == min(least for least, value in accuracy.items() if value > max(accuracy.values()) - 1e-9)
    assert (found.positives, found.negatives) == (label.sum(), 60 - label.sum())


def test_a_judge_that_knows_nothing_lets_everybody_through() -> None:
    yes = np.array([0.3, 0.2, 0.3, 0.2], np.float32)
    assert threshold.choose(yes, np.array([True, True, False, False])).value == np.float32(0.2)
    assert threshold.choose(yes, np.array([False, True, False, True])).value == np.float32(0.2)


def test_one_class_is_refused() -> None:
    for label in (np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)):
        with pytest.raises(InputError, match=r"simulator\.funnel\.threshold: split 'valid' gives \d positives"):
            threshold.choose(np.zeros(len(label), np.float32), label)


def test_pairs_are_held_out_positives_and_unseen_items_of_the_same_users(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    people = Population.read(tmp_path)
    liked = {}
    for split in ("train", "valid"):
        rows = pad.dataset(tmp_path / "interactions" / f"split={split}").to_table().to_pylist()
        liked[split] = {(row["user_id"], row["item_id"]) for row in rows if row["label"] == 1}
    found = threshold.held_out(people, tmp_path, 20, seed=0)
    users, items = (ids.to_pylist() for ids in (people.users, people.items))
    named = [(users[user], items[item]) for user, item in found.pairs]
    positives, negatives = named[:10], named[10:]
    assert found.label.tolist() == [True] * 10 + [False] * 10
    assert len(set(positives)) == 10 and set(positives) <= liked["valid"] - liked["train"]
    assert [user for user, _ in positives] == [user for user, _ in negatives]
    assert not set(negatives) & (liked["valid"] | liked["train"]) and (found.pairs[:, 1] < people.warm).all()
    assert threshold.held_out(people, tmp_path, 20, seed=0).pairs.tolist() == found.pairs.tolist()
    assert len(threshold.held_out(people, tmp_path, 0, seed=0).label) == 0
