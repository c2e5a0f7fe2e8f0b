"""The search: the same budget for all, and nothing trained twice."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.rivals.grids import DEFAULTS, GRIDS, Params, configurations
from recsys.rivals.search import Journal, key_of, search
from tests import tiny


def _quiet(_: str) -> None:
    return


@pytest.mark.parametrize("system", sorted(GRIDS))
def test_configurations(system: str) -> None:
    eight = configurations(system, 8, seed=0)
    assert len(eight) == 8
    assert eight[0] == DEFAULTS[system]
    assert all(a != b for a, b in itertools.combinations(eight, 2))
    assert configurations(system, 12, seed=0)[:8] == eight
    for params in eight[1:]:
        assert all(value in GRIDS[system][name] for name, value in params.items())


def test_resumes_without_training_twice(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    path = tmp_path / "trials.jsonl"
    trained: list[Params] = []

    def train(params: Params) -> float:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(params)
        return 0.5 + len(trained) / 100

    with pytest.raises(KeyboardInterrupt):
        search("means", config, 5, Journal(path), train, _quiet)
    assert len(path.read_text().splitlines()) == 3
    with path.open("a") as out:
        out.write('{"key": "cut off')  # a crash in the middle of a line
    again: list[Params] = []

    def rest(params: Params) -> float:
        again.append(params)
        return 0.4

    found = search("means", config, 5, Journal(path), rest, _quiet)
    assert trained + again == configurations("means", 5, seed=0)
    assert [trial.valid_auc for trial in found] == [0.53, 0.52, 0.51, 0.4, 0.4]
    search("means", config, 5, Journal(path), rest, _quiet)
    assert len(again) == 2


def test_a_key_knows_what_matters(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    other = replace(config, train=replace(config.train, lr=0.5))
    assert key_of("base", {}, config) != key_of("base", {}, other)
    assert key_of("trees", {}, config) == key_of("trees", {}, other)
    assert key_of("trees", {}, config) != key_of("linear", {}, config)
    assert key_of("base", {}, replace(config, run="elsewhere")) == key_of("base", {}, config)
    reseeded = replace(config, train=replace(config.train, seed=7))
    assert key_of("trees", {}, config) != key_of("trees", {}, reseeded)


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"key": 1}\n')
    with pytest.raises(InputError, match="line 1: not a trial"):
        Journal(path)
