"""What is drawn, what comes in, what is right, and what each system forgets."""

import copy
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from recsys.config import Config
from recsys.config_prompt_model import Retention
from recsys.prompt import protocol, retention
from recsys.prompt.beside import Beside
from recsys.prompt.network import PromptLearner
from tests.prompt.beside import ALONE, CPU, begin


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    found = begin(tmp_path_factory.mktemp("retention"), "sasrec")
    options = Retention(pairs=40, rounds=3, negatives=4, batch=16)
    return replace(found, prompt=replace(found.prompt, retention=options))


@dataclass
class Told:
    """Scores items by a table, from which what is learned as negative takes one."""

    table: NDArray[np.float32]

    def scores(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.table[user, item]

    def learn(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> None:
        self.table -= np.bincount(item, minlength=self.table.shape[1]).astype(np.float32)


def test_the_pairs_are_pinnacle_feedback_and_the_stream_is_nobodys_positive(made: Config) -> None:
    beside = Beside.read(made, CPU)
    graph = beside.base.graph
    pairs = retention.drawn(beside, made.prompt.retention, 10, np.random.default_rng(0))
    assert len(set(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True))) == 40
    assert graph.has(pairs.user, pairs.item).all()
    assert not graph.has(np.repeat(pairs.user, 10), pairs.others.ravel()).any()
    items = np.unique(pairs.item)
    user, item = retention.stream(graph, items, 5, np.random.default_rng(0))
    assert np.bincount(item, minlength=len(graph.items))[items].tolist() == [5] * len(items) == [5] * len(set(item))
    assert not graph.has(user, item).any() and len(set(user)) > 20


def test_right_is_among_the_best_ten_and_what_was_wrong_before_is_not_counted(made: Config) -> None:
    beside = Beside.read(made, CPU)
    users, items = len(beside.base.graph.users), len(beside.base.graph.items)
    pairs = retention.drawn(beside, made.prompt.retention, 20, np.random.default_rng(0))
    table = np.random.default_rng(1).normal(size=(users, items)).astype(np.float32)
    expected = [
        sum(table[u, other] >= table[u, i] for other in others) < 10
        for u, i, others in zip(pairs.user, pairs.item, pairs.others, strict=True)
    ]
    found = list(retention.retained(Told(table), beside, pairs, made.prompt.retention, np.random.default_rng(0)))
    assert [row["step"] for row in found] == [0, 4, 8, 12]
    assert {row["right"] for row in found} == {sum(expected)} and 0 < sum(expected) < 40
    assert found[0]["share"] == 1.0 and all(row["share"] == row["kept"] / row["right"] for row in found)


def test_each_system_scores_as_it_does_elsewhere_and_learns_alone(made: Config) -> None:
    beside = Beside.read(made, CPU)
    base, before = beside.base, copy.deepcopy(beside.base.model.state_dict())
    random = np.random.default_rng(0)
    user, item = random.integers(len(base.graph.users), size=32), random.integers(len(base.graph.items), size=32)
    expected = (base.rows()[torch.from_numpy(user)] * base.items[torch.from_numpy(item)]).sum(dim=1).numpy()
    learner = PromptLearner(made, beside)
    systems: list[retention.System] = [retention.Further(beside, 0.01), retention.Prompted(learner)]
    for system in systems:
        np.testing.assert_allclose(system.scores(user, item), expected, atol=1e-5)
        for _ in range(30):
            system.learn(user, item)
        assert system.scores(user, item).mean() < expected.mean() - 0.1
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())


def test_the_table_is_written_and_the_frozen_base_forgets_nothing(made: Config, tmp_path: Path) -> None:
    shutil.copytree(Path(made.run), tmp_path / "run")
    asked = replace(made, run=str(tmp_path / "run"))
    path = retention.measure(asked, ALONE)
    assert path == protocol.folder_of(asked) / "retention.parquet"
    rows = pq.read_table(path).to_pylist()
    assert [row["system"] for row in rows] == ["base"] * 4 + ["finetuned"] * 4 + ["promo"] * 4
    assert [row["share"] for row in rows[:5]] == [1.0] * 5 and rows[0]["right"] == rows[4]["right"] > 0
    assert pq.read_table(retention.measure(asked, ALONE)).to_pylist() == rows
