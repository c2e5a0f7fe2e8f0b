"""Rounds against one item after the other, by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.config_simulator import Funnel
from simulator.candidates import Candidates
from simulator.refine import rounds

ITEMS, USERS, K = np.array([7, 3, 9, 4]), 30, 11
ANSWERS = np.random.default_rng(0).random((USERS, 10)).astype(np.float32)


def candidates() -> Candidates:
    """Of the items 11, 11, 4 and 0 users."""
    random = np.random.default_rng(1)
    users = np.stack([random.permutation(USERS)[:K] for _ in ITEMS])
    users[2, 4:] = users[3] = -1
    return Candidates(ITEMS, users, np.zeros(users.shape, np.float32))


@pytest.mark.parametrize("step", [1, 3, 4, 50])
@pytest.mark.parametrize("least", [0.0, 0.6, 0.99])
def test_rounds_ask_about_an_item_until_enough_of_its_users_qualify(step: int, least: float) -> None:
    found, asked = candidates(), []

    def ask(pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append(pairs)
        return ANSWERS[pairs[:, 0], pairs[:, 1]]

    yes = rounds(ask, found, least, Funnel(qualified=3, round=step))
    for item, users, row in zip(ITEMS, found.users, yes, strict=True):
        expected: list[float] = []
        real = users[users >= 0]
        while len(expected) < len(real) and sum(one >= least for one in expected) < 3:
            expected += [ANSWERS[user, item] for user in real[len(expected) : len(expected) + step]]
        assert row[~np.isnan(row)].tolist() == expected and np.isnan(row[len(expected) :]).all()
    assert len(np.unique(np.concatenate(asked), axis=0)) == sum(map(len, asked)) == (~np.isnan(yes)).sum()
