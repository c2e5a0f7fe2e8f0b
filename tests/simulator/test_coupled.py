"""Pairs for the coupled loss: half taken, asked without showing the answer, asked once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.config import Config
from simulator import coupled, judge, prompts
from simulator.population import Population
from simulator.samples import Interactions
from tests.simulator import planted


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Config, Population, Interactions]:
    home = tmp_path_factory.mktemp("coupled")
    planted.write(home / "data")
    population = Population.read(home / "data")
    warm = np.arange(planted.ITEMS) < population.warm
    return planted.config(home, folder), population, Interactions.of(population, np.ones(planted.USERS, bool), warm)


def test_half_of_a_users_pairs_were_taken(made: tuple[Config, Population, Interactions]) -> None:
    _, _, known = made
    user, item = coupled.draw(known, 80, seed=0)
    users, counts = np.unique(user, return_counts=True)
    assert len(users) == 10 and len(user) <= 80 and (np.diff(user) >= 0).all()
    took = known.has(user, item)
    assert (np.bincount(user, took)[users] * 2 >= counts).all() and took.sum() == 40
    assert len(coupled.draw(known, 0, seed=0)[0]) == 0


def test_a_pairs_answer_is_the_judges_of_a_history_without_the_items_asked_about(
    made: tuple[Config, Population, Interactions], tmp_path: Path
) -> None:
    config, population, known = made
    config = replace(config, run=str(tmp_path))
    asked = judge.load(config.simulator, torch.device("cpu"))
    found = coupled.ask(config, asked, population, known)
    titles = [prompts.clean(f"film {k} of toys") for k in range(planted.ITEMS)]
    titles = [prompts.clean(f"film {k} of toys") for k in range(planted.ITEMS)]
    few = [user for user in np.unique(found.user) if population.taken.lengths[user] <= config.simulator.prompt.history]
    assert few
    for user in few:
        some = found.user == user
        took = population.taken.slice(user, user + 1).values
        left = [titles[code] for code in took if code not in found.item[some]]
        assert len(left) < len(took)
        items = [titles[code] for code in found.item[some]]
        pairs = np.stack([np.zeros(len(items), int), np.arange(len(items))], axis=1)
        np.testing.assert_allclose(found.yes[some], asked.score([left], items, pairs), atol=1e-5)
    assert 0 < found.answers.mean() <= 0.5 and (found.yes[found.answers == 1] > np.median(found.yes)).all()


def test_nothing_is_asked_twice(made: tuple[Config, Population, Interactions], tmp_path: Path) -> None:
    config, population, known = made
    config = replace(config, run=str(tmp_path))
    asked = judge.load(config.simulator, torch.device("cpu"))
    first = coupled.ask(config, asked, population, known)
    parts = sorted((tmp_path / "simulator" / "judged").glob("*.parquet"))
    again = coupled.ask(config, asked, population, known)
    assert np.array_equal(first.yes, again.yes) and len(parts) > 0
    assert sorted((tmp_path / "simulator" / "judged").glob("*.parquet")) == parts
