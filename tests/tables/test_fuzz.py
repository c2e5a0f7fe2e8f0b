"""Checkpoints made wrong: a clear refusal each time, nothing loaded, no pickle opened."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys.data.fit import fit
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, manifest
from recsys.tables.places import FORMAT, places
from recsys.tables.stored import StoredTensor
from recsys.train import build
from tests import tiny
from tests.fuzz import Runs, mutations, seal
from tests.ranks import run_ranks
from tests.tables.test_crash import NEW, OLD, config, fill, save

OPENED, LOADED = 800, 200
"""Cases that are read without a model, and that are loaded into one."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fuzz")
    tiny.write(home / "data")
    run_ranks(1, save, home, home / "checkpoints", 1, OLD)
    return home


def no_pickle(patch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> Any:
        raise AssertionError("a pickle was opened")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        patch.setattr(module, name, refused)


def read_all(path: Path) -> None:
    """Everything of a checkpoint that can be read without a model."""
    told = manifest.verify(path, FORMAT)
    checkpoint.progress_of(path)
    checkpoint.version_of(path)
    found = places(path, told)
    for name in found:
        StoredTensor(path, name, "", found).whole()


def test_wrong_checkpoints_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path] = (home / "checkpoints").iterdir()
    no_pickle(monkeypatch)
    refused = 0
    for case in mutations(path, seed=1, n=OPENED):
        try:
            read_all(path)
        except InputError as error:
            refused += 1
            assert str(path) in str(error), case.name
        except Exception as error:
            raise AssertionError(f"{case.name}: {error!r}") from error
        else:
            assert case.sealed, f"{case.name}: not refused"
    assert refused > OPENED * 0.7
    read_all(path)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_a_planted_pickle_is_refused_and_never_opened(home: Path, tmp_path: Path, name: str) -> None:
    path = shutil.copytree(next((home / "checkpoints").iterdir()), tmp_path / "step-00000001")
    size = len(planted := pickle.dumps(Runs(tmp_path / "ran")))
    file = path / name
    file.write_bytes(planted + file.read_bytes()[size:])
    assert checkpoint.latest(tmp_path) == path, "it looks whole"
    with pytest.raises(InputError, match=f"{name}: damaged"):
        read_all(path)
    seal(path, file)
    read_all(path)  # none of what is read lies where a pickle does
    assert not (tmp_path / "ran").exists()
    pickle.loads(planted)
    assert (tmp_path / "ran").exists(), "opened, it does run"


def load_wrong_ones(home: Path, path: Path) -> tuple[int, list[str]]:
    """How many of the cases were refused, and those that were not what they should be."""
    refused, wrong = 0, []
    made = config(home)
    with process_group() as ranks:
        sharded = build(made, fit(made), ranks)
        sharded.dense_optimizer.init_state()
        live = [*sharded.model.state_dict().values(), *sharded.states().values()]
        cells = [shard.tensor for each in live if hasattr(each, "local_shards") for shard in each.local_shards()]
        no_pickle(pytest.MonkeyPatch())
        for case in mutations(path, seed=2, n=LOADED):
            fill(sharded, NEW)
            try:
                checkpoint.load(path, sharded)
                if not case.sealed:
                    wrong.append(f"{case.name}: not refused")
            except InputError as error:
                refused += 1
                if str(path) not in str(error) or not all((cell == NEW).all() for cell in cells):
                    wrong.append(f"{case.name}: {error}")
            except Exception as error:
                wrong.append(f"{case.name}: {error!r}")
    return refused, wrong


def test_nothing_of_a_wrong_checkpoint_is_loaded(home: Path) -> None:
    [path] = (home / "checkpoints").iterdir()
    [(refused, wrong)] = run_ranks(1, load_wrong_ones, home, path)
    assert not wrong
    assert refused > LOADED * 0.6
