"""What a space may say, and how it is told what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys import settings
from recsys.config import Config
from recsys.config_search import Range
from recsys.errors import InputError
from recsys.search.keys import laid, resolved
from tests import tiny

ROOT = Path(__file__).resolve().parent.parent.parent


def searched(tmp_path: Path, space: Any, **more: Any) -> Config:
    return tiny.config(tmp_path / "data", tmp_path / "run", search={"space": space, **more})


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "search.space: expected keys to choose"),
        ({"train.lrr": [0.1]}, "search.space: unknown key 'train.lrr'; did you mean 'lr'?"),
        ({"trian.lr": [0.1]}, "search.space: unknown key 'trian'; did you mean 'train'?"),
        ({"train.lr": []}, "search.space: train.lr: an empty list: nothing to choose from"),
        (
            {"train.lr": 0.1},
            r"train.lr: expected a list of values or \{low, high, log, step\}, found 0.1",
        ),
        ({"train.lr": {"low": 0.2, "high": 0.1}}, "train.lr: low 0.2 and high 0.1: nothing to choose from"),
        ({"train.lr": {"low": 0.1, "high": 0.1}}, "train.lr: low 0.1 and high 0.1: nothing to choose from"),
        ({"train.lr": {"low": 0, "high": 1, "log": True}}, "train.lr: low 0: expected a number above 0 where log"),
        ({"train.lr": {"low": 0.1}}, "search.space: train.lr.high: "),
        ({"train.lr": {"low": 0.1, "high": float("nan")}}, "search.space: train.lr.high: "),
        ({"train.lr": {"low": 0.1, "high": 1.0, "logg": True}}, "search.space: train.lr.logg: "),
        ({"model.dim": {"low": 4, "high": 8, "step": 0}}, "model.dim: step 0: expected a number above 0"),
        ({"model.dim": {"low": 4, "high": 16, "step": 2.5}}, "model.dim: step 2.5: expected a whole number"),
        ({"train.lr": ["fast"]}, "search.space: train.lr: "),
        ({"model.dim": [8, 9]}, "search.space: model.dim: .*multiple of 4, got 9"),
        ({"train.epochs": {"low": 0.5, "high": 2.5}}, "search.space: train.epochs: "),
        ({"train.bf16": {"low": 0, "high": 1}}, "train.bf16: a range needs a key that takes numbers"),
        ({"features.9.capacity": [4]}, "search.space: features.9.capacity: expected an index from 0 to 5"),
        (
            {"data.history": [6, 3]},
            "data.history: not a key that search.system=ranker is searched by: expected one that",
        ),
        ({"floor.strength": [1.0]}, "floor.strength: not a key that search.system=ranker"),
    ],
)
def test_a_space_that_is_wrong_is_refused(tmp_path: Path, space: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolved(searched(tmp_path, space))


def test_a_system_of_the_floor_has_keys_of_its_own(tmp_path: Path) -> None:
    config = searched(tmp_path, {"floor.prior": {"low": 0.01, "high": 4}, "floor.ridge": [1, 2]}, system="ridge")
    space, default = resolved(config)
    # A key that takes several values or one is searched as one.
    assert space == {"floor.prior": Range(low=0.01, high=4.0), "floor.ridge": [[1.0], [2.0]]}
    assert default["floor.prior"] == [0.01, 0.1, 1.0, 4.0]
    with pytest.raises(InputError, match=r"floor\.prior: not a key that search.system=means is searched by"):
        resolved(searched(tmp_path, {"floor.prior": [1.0]}, system="means"))


def test_values_are_taken_as_the_schema_takes_them(tmp_path: Path) -> None:
    given = yaml.safe_load("{train.lr: {low: 1e-3, high: 1}, model.dropout: {low: 0, high: 0.5}, train.epochs: [1, 2]}")
    space, default = resolved(searched(tmp_path, given))
    assert space == {
        "train.lr": Range(low=0.001, high=1.0),
        "model.dropout": Range(low=0.0, high=0.5),
        "train.epochs": [1, 2],
    }
    assert isinstance(space["train.lr"], Range) and isinstance(space["train.lr"].high, float)
    assert default == {"train.lr": 0.002, "model.dropout": 0.0, "train.epochs": 1}


def test_a_step_may_be_a_fraction_where_the_key_takes_one(tmp_path: Path) -> None:
    steps = {"train.lr": {"low": 1, "high": 2, "step": 0.25}, "model.dim": {"low": 4, "high": 16, "step": 4.0}}
    space, _ = resolved(searched(tmp_path, steps))
    assert space["train.lr"] == Range(low=1.0, high=2.0, step=0.25)
    assert space["model.dim"] == Range(low=4, high=16, step=4) and isinstance(space["model.dim"].step, int)


def test_what_was_found_can_be_laid_over_the_config(tmp_path: Path) -> None:
    config = searched(tmp_path, {"train.lr": [0.1]})
    found = {"train.lr": 1e-5, "model.top": [8, 4], "features.1.capacity": 40}
    best, given = tmp_path / "best.yaml", tmp_path / "config.yaml"
    best.write_text(yaml.safe_dump(laid(config, found)))
    settings.dump(config, given)
    made = settings.load(given, [str(best)])
    assert made == settings.with_values(config, found)
    assert (made.train.lr, made.model.top, made.features[1].capacity) == (1e-5, [8, 4], 40)
    assert made.features[0] == config.features[0] and made.model.dim == config.model.dim


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "search").glob("*.yaml")), ids=lambda path: path.name)
def test_the_spaces_of_the_repo_are_sound(path: Path) -> None:
    space, default = resolved(settings.load(ROOT / "configs" / "movielens-1m.yaml", [str(path)]))
    assert len(space) > 1 and default.keys() == space.keys()


def test_a_config_with_a_space_survives_its_file(tmp_path: Path) -> None:
    config = searched(tmp_path, {"train.lr": {"low": 0.001, "high": 0.1, "log": True}, "model.top": [[8], [4]]})
    settings.dump(config, tmp_path / "config.yaml")
    assert settings.load(tmp_path / "config.yaml") == config
