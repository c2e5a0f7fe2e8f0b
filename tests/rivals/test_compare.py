"""The whole comparison on two tiny draws, with the base's training replaced by a fast stand-in."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recsys.config import Config
from recsys.errors import InputError
from recsys.rivals import base, bench, compare, summary
from recsys.rivals.bench import TRAIN, Bench
from recsys.trials.space import Params
from tests import tiny
from tests.rivals import planted


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, list[str]]:
    """A config, and the list of what is trained."""
    trained: list[str] = []
    train = dict(TRAIN)

    def stand_in(config: Config, params: Params, folder: Path, ranks: int) -> Any:
        trained.append("base")
        return train["means"](Bench(config), {"user_strength": 3.0, "item_strength": 3.0}, 0)

    def counted(name: str) -> Any:
        def run(bench: Bench, params: Params, seed: int) -> Any:
            trained.append(name)
            return train[name](bench, params, seed)

        return run

    def prepare(data: Any) -> None:
        if not Path(data.path).exists():
            planted.write(Path(data.path))
        if data.path.endswith("-search"):
            # The search must do without the rows that the systems are compared on.
            shutil.rmtree(Path(data.path) / "interactions" / "split=test", ignore_errors=True)

    monkeypatch.setattr(base, "train", stand_in)
    monkeypatch.setattr(compare, "TRAIN", {name: counted(name) for name in train})
    monkeypatch.setattr(bench, "prepare", prepare)
    planted.write(tmp_path / "data")
    return tiny.config(tmp_path / "data", tmp_path / "run"), trained


def test_two_draws(config: tuple[Config, list[str]]) -> None:
    settings, trained = config
    systems = ("base", "means")
    found = compare.compare(settings, 2, [0, 1], 1, ("means",))
    # Two trials of each on the inner cut, then the best of each on each draw.
    assert (trained.count("base"), trained.count("means")) == (4, 4)
    assert found["seeds"] == [0, 1]
    assert set(found["systems"]) == set(systems)
    for segment in ("warm", "n=0"):
        value, low, high = found["differences"]["base - means"][segment]["auc"]
        assert low <= value <= high
        ours, theirs = (found["systems"][name][segment]["auc"][0] for name in systems)
        assert value == pytest.approx(ours - theirs)
    assert len(found["search"]["means"]["trials"]) == 2
    folder = Path(settings.run) / "rivals"
    assert json.loads((folder / "results.json").read_text()) == found
    assert "| user and item means | 2 (" in (folder / "table.md").read_text()
    trained.clear()
    assert compare.compare(settings, 2, [0, 1], 1, ("means",)) == found
    assert not trained


def test_another_seed_is_another_dataset(config: tuple[Config, list[str]], tmp_path: Path) -> None:
    settings, _ = config
    drawn = bench.draw(settings, 2, tmp_path / "rivals")
    assert drawn.data.path == f"{settings.data.path}-seed2"
    assert (drawn.data.split.seed, drawn.train.seed) == (2, 2)
    assert bench.draw(settings, 0, tmp_path / "rivals").data == settings.data
    shifted = replace(settings, data=replace(settings.data, split=replace(settings.data.split, seed=4)))
    assert bench.draw(shifted, 4, tmp_path / "rivals").data.path == settings.data.path


def test_a_difference_is_turned_with_its_interval() -> None:
    assert summary._negated({"auc": [-0.01, -0.03, 0.02], "rows": 5}) == {"auc": [0.01, -0.02, 0.03], "rows": 5}


def test_a_budget_of_nothing_is_refused(config: tuple[Config, list[str]]) -> None:
    with pytest.raises(InputError, match="budget 0: expected at least one"):
        compare.compare(config[0], 0, [0])
