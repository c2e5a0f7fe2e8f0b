"""Batches of what was taken: every edge once, with negatives that were not taken and never come from outside."""

import numpy as np
import pytest

from simulator.population import Population
from simulator.samples import Interactions
from tests.simulator import planted


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Population:
    return Population.read(planted.write(tmp_path_factory.mktemp("samples") / "data"))


def test_an_epoch_is_every_edge_once_with_an_item_and_a_user_that_do_not_belong(population: Population) -> None:
    users, items = np.arange(planted.USERS) % 5 != 0, np.arange(planted.ITEMS) < population.warm - 7
    known = Interactions.of(population, users, items)
    took = {(user, item) for item in np.flatnonzero(items) for user in planted.TAKERS[item] if users[user]}
    batches = list(known.batches(64, seed=3, epoch=1))
    user, item, other_item, other_user = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert {*zip(user, item, strict=True)} == took and len(user) == len(took)
    assert max(len(each[0]) for each in batches) == 64
    for pair in zip(user, other_item, strict=True):
        assert pair not in took
    for pair in zip(other_user, item, strict=True):
        assert pair not in took
    assert items[other_item].all() and users[other_user].all()
    assert len(np.unique(other_user)) > 0.9 * users.sum() and len(np.unique(other_item)) > 0.9 * items.sum()
    again, other = (next(known.batches(64, 3, epoch))[0] for epoch in (1, 2))
    assert np.array_equal(again, batches[0][0]) and not np.array_equal(other, batches[0][0])


def test_lists_are_what_each_user_took(population: Population) -> None:
    everyone, warm = np.ones(planted.USERS, bool), np.arange(planted.ITEMS) < population.warm
    lists = Interactions.of(population, everyone, warm).lists(planted.USERS)
    for user in range(planted.USERS):
        took = np.flatnonzero((planted.TAKERS[: population.warm] == user).any(axis=1))
        assert lists.slice(user, user + 1).values.tolist() == took.tolist()


def test_of_a_user_who_took_everything_a_negative_is_some_item() -> None:
    known = Interactions(np.array([0, 1]), np.array([0, 1, 2]), np.array([0, 1, 2, 3]), 3)
    drawn = known.other_items(np.array([0, 1, 1]), np.random.default_rng(0))
    assert 0 <= drawn[0] < 3 and (drawn[1:] > 0).all()
