"""The search: the same budget for all, the default first, and nothing trained twice."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.rivals import base
from recsys.rivals.grids import BASE, DEFAULTS, SPACES, default
from recsys.rivals.search import key_of, search
from recsys.trials.space import Params, inside
from tests import tiny


def _quiet(_: str) -> None:
    return


@pytest.mark.parametrize("system", sorted(SPACES))
def test_every_system_has_as_many_trials_and_its_default_first(system: str, tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    tried: list[Params] = []

    def train(params: Params) -> float:
        tried.append(params)
        return 0.5

    for budget in (3, 8):
        search(system, config, budget, tmp_path / "trials.jsonl", train, _quiet)
    assert len(tried) == 8 and all(params not in tried[:place] for place, params in enumerate(tried))
    assert tried[0] == default(system, config)
    for params in tried[1:]:
        assert inside(SPACES[system], params).keys() == SPACES[system].keys() == params.keys()


@pytest.mark.parametrize("system", sorted(DEFAULTS))
def test_a_default_lies_in_its_space(system: str) -> None:
    assert inside(SPACES[system], DEFAULTS[system]).keys() == DEFAULTS[system].keys()


def test_the_default_of_the_base_is_its_config(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    assert default(BASE, config)["train.lr"] == config.train.lr and default(BASE, config)["model.dim"] == 8


def test_it_says_what_was_found_best_first(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    values = iter([0.5, 0.7, 0.6])
    said: list[str] = []
    found = search("means", config, 3, tmp_path / "trials.jsonl", lambda _: next(values), said.append)
    assert [trial.value for trial in found] == [0.7, 0.6, 0.5]
    assert said[0].startswith("means 1/3: valid AUC 0.5000, 0 s, {'user_strength': 10.0")


def test_a_command_that_fails_is_a_trial_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    begun: list[Params] = []

    def train(params: Params) -> float:
        begun.append(params)
        if len(begun) == 2:
            monkeypatch.setattr(sys, "executable", "false")
            return base.train(config, params, tmp_path / "base", ranks=1).valid_auc
        return 0.5

    found = search(BASE, config, 3, tmp_path / "trials.jsonl", train, _quiet)
    assert len(begun) == 3 and len(found) == 2


def test_a_key_knows_what_matters(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    other = replace(config, train=replace(config.train, lr=0.5))
    assert key_of("base", {}, config) != key_of("base", {}, other)
    assert key_of("trees", {}, config) == key_of("trees", {}, other)
    kept = replace(config, train=replace(config.train, keep=9, timeout=99))
    assert key_of("base", {}, config) == key_of("base", {}, kept)
    assert key_of("base", {}, config, 1) != key_of("base", {}, config, 2)
    assert key_of("trees", {}, config, 1) == key_of("trees", {}, config, 2)
    assert key_of("trees", {}, config) != key_of("linear", {}, config)
    assert key_of("base", {}, replace(config, run="elsewhere")) == key_of("base", {}, config)
    reseeded = replace(config, train=replace(config.train, seed=7))
    assert key_of("trees", {}, config) != key_of("trees", {}, reseeded)
