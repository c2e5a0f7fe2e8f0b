"""What the judge is tuned on: yes where the user took the item, no where not, and nothing told that is asked."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chisquare

from recsys.config_simulator import Tune
from recsys.data.jagged import Jagged
from recsys.errors import InputError
from simulator.examples import Example, Examples
from simulator.population import Population

WARM, COLD = 50, 10
LENGTHS = np.array([12, 1, 0, 30, 2, 7, 20])
NOBODY = Jagged(np.zeros(0, np.int32), np.zeros(len(LENGTHS) + 1, np.int64))


def population(seed: int = 0) -> Population:
    """Items of low code are popular, some are taken twice, and seconds come in pairs."""
    random = np.random.default_rng(seed)
    weight = 1 / np.arange(1, WARM + 1)
    rows = [random.choice(WARM, length, p=weight / weight.sum(), replace=False) for length in LENGTHS]
    rows[3][20] = rows[3][0]
    time = np.concatenate([100 + np.arange(length) // 2 for length in LENGTHS])
    taken = Jagged(np.concatenate(rows).astype(np.int32), np.concatenate([[0], np.cumsum(LENGTHS)]))
    ids = pa.array([f"i{k:02d}" for k in range(WARM + COLD)])
    return Population(pa.array([f"u{k}" for k in range(len(LENGTHS))]), ids, WARM, taken, time)


def drawn(options: Tune, steps: int = 40, ignored: Jagged = NOBODY, history: int = 6) -> list[Example]:
    examples = Examples(population(), ignored, options, history)
    return [one for step in range(steps) for one in examples.step(step)]


@pytest.mark.parametrize("temporal", [False, True])
def test_yes_is_what_was_taken_and_never_told(temporal: bool) -> None:
    taken = population().taken
    found = drawn(Tune(users=2, positives=4, temporal=temporal))
    users = set()
    for one in found:
        own = {*taken.slice(one.user, one.user + 1).values}
        yes, no = one.items[one.answers == 0], one.items[one.answers == 1]
        users.add(one.user)
        assert 1 <= len(yes) <= 4 and len(no) == len(yes)
        assert not {*yes} & {*one.history} and not {*no} & own
        assert len({*one.items}) == len(one.items) and one.items.max() < WARM
        assert 1 <= len(one.history) <= 6 and len({*one.history}) == len(one.history)
    assert users == ({0, 3, 5, 6} if temporal else {0, 3, 4, 5, 6})


def test_a_temporal_history_ends_before_its_questions() -> None:
    asked = population()
    for one in drawn(Tune(users=4, positives=3, temporal=True)):
        rows = slice(*asked.taken.offsets[one.user : one.user + 2])
        first: dict[int, int] = {}
        for item, time in zip(asked.taken.values[rows], asked.time[rows], strict=True):
            first.setdefault(int(item), int(time))
        told = [first[item] for item in one.history]
        assert told == sorted(told)
        assert max(told) < min(first[item] for item in one.items[one.answers == 0])


def test_a_step_is_drawn_by_its_number_and_the_seed() -> None:
    def as_lists(options: Tune, step: int) -> list[list[list[int]]]:
        made = Examples(population(), NOBODY, options, 6).step(step)
        return [[one.history.tolist(), one.items.tolist()] for one in made]

    made = Examples(population(), NOBODY, Tune(users=3), 6)
    for step in (0, 1, 7):
        made.step(step)
    assert [[one.history.tolist(), one.items.tolist()] for one in made.step(5)] == as_lists(Tune(users=3), 5)
    assert as_lists(Tune(users=3), 5) != as_lists(Tune(users=3), 6)
    assert as_lists(Tune(users=3), 5) != as_lists(Tune(users=3, seed=1), 5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nos_are_drawn_uniformly_or_as_often_as_they_were_taken(share: float) -> None:
    """Of one user with two items and one question at a time, so that no draw depends on another."""
    random = np.random.default_rng(0)
    own, singles = np.array([3, 9]), random.choice(WARM, 90, p=np.arange(WARM) / np.arange(WARM).sum())
    taken = Jagged(np.concatenate([own, singles]).astype(np.int32), np.concatenate([[0], np.arange(2, 93)]))
    ids = pa.array([f"u{k:02d}" for k in range(91)])
    alone = replace(population(), users=ids, taken=taken, time=np.arange(92))
    examples = Examples(alone, Jagged(NOBODY.values, np.zeros(92, np.int64)), Tune(positives=1, popular_share=share), 6)
    others = np.setdiff1d(np.arange(WARM), own)
    counts = np.zeros(WARM)
    for step in range(3000):
        [one] = examples.step(step)
        counts[one.items[one.answers == 1]] += 1
    weight = alone.popularity()[others] if share else np.ones(len(others))
    assert counts.sum() == 3000 and counts[own].sum() == 0
    assert not counts[others][weight == 0].any()
    kept = weight > 0
    assert chisquare(counts[others][kept], 3000 * weight[kept] / weight[kept].sum()).pvalue > 1e-4


def test_what_the_steps_other_users_took_comes_first() -> None:
    """Each item that could be is asked about with either answer, so popularity gives no gradient."""
    taken = population().taken
    examples = Examples(population(), NOBODY, Tune(users=3, positives=4, popular_share=1.0), 6)
    for step in range(40):
        made = examples.step(step)
        for one in made:
            yes = np.concatenate([more.items[more.answers == 0] for more in made if more is not one])
            free = np.setdiff1d(yes, taken.slice(one.user, one.user + 1).values)
            no = one.items[one.answers == 1]
            assert np.isin(no, free).sum() == min(len(no), len(free))


def test_what_was_shown_and_not_taken_is_a_no_of_its_own() -> None:
    """As many as were taken, beside as many that were not shown (ColdLLM, section 4.3.1)."""
    taken = population().taken
    shown = [np.setdiff1d(np.arange(25), taken.slice(k, k + 1).values) for k in range(len(LENGTHS))]
    shown[4] = shown[4][:0]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in shown])])
    ignored = Jagged(np.concatenate(shown).astype(np.int32), offsets)
    for one in drawn(Tune(users=5, positives=2), ignored=ignored):
        yes, no = one.items[one.answers == 0], one.items[one.answers == 1]
        if one.user == 4:
            assert len(no) == len(yes)
        else:
            assert len(no) == 2 * len(yes) and np.isin(no[: len(yes)], shown[one.user]).all()
            assert not np.isin(no[len(yes) :], shown[one.user]).any()


def test_without_two_items_of_anybody_there_is_nothing_to_ask() -> None:
    one = replace(population(), taken=Jagged(np.zeros(7, np.int32), np.arange(8)), time=np.zeros(7, np.int64))
    with pytest.raises(InputError, match="expected a user who took two items, to tune"):
        Examples(one, NOBODY, Tune(), 6)
    same = replace(population(), time=np.zeros(len(population().time), np.int64))
    with pytest.raises(InputError, match="two items in two seconds"):
        Examples(same, NOBODY, Tune(temporal=True), 6)
