"""Deltas made wrong: a clear refusal each time by whoever would take them, which is as it was; no pickle opened."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recsys.data.fit import fit
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, delta, live
from recsys.tables.delta import Delta
from recsys.tables.patch import patch
from recsys.tables.refresh import refresh
from recsys.tables.rows import Rows
from recsys.train import build
from tests.fuzz import Case, mutations
from tests.ranks import run_ranks
from tests.tables import saved
from tests.tables.changes import at_random, written
from tests.tables.test_fuzz import no_pickle

OPENED, PATCHED, REFRESHED, APPLIED = 700, 120, 60, 120
"""Cases that are read, and that a checkpoint, a bundle and a live model are asked to take."""


@pytest.fixture
def made(tmp_path: Path) -> Delta:
    tables = {"item_id": at_random(1, [0, 1, 2, 11, 29], dim=saved.DIM), "genres": at_random(2, [1], dim=saved.DIM)}
    return written(tmp_path / "delta", tables, 1, saved.VERSION, saved.DIM)


def refused(case: Case, take: Callable[[], object], *named: Path) -> bool:
    """Whether a wrong delta was refused, by an error that names what is wrong; only one that is sealed may not be."""
    try:
        take()
    except InputError as error:
        assert any(str(path) in str(error) for path in named), f"{case.name}: {error}"
        return True
    except Exception as error:
        raise AssertionError(f"{case.name}: {error!r}") from error
    assert case.sealed, f"{case.name}: not refused"
    return False


def test_wrong_deltas_are_refused(made: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    no_pickle(monkeypatch)
    count = sum(
        refused(case, lambda: delta.read(made.folder).check(), made.folder)
        for case in mutations(made.folder, seed=3, n=OPENED)
    )
    assert count > OPENED * 0.7
    delta.read(made.folder).check()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_who_refuses_one_is_as_it_was(home: Path, tmp_path: Path, made: Delta, kind: str) -> None:
    source = saved.best(home, "column_wise") if kind == "checkpoint" else home / "column_wise" / "export"
    place = tmp_path / "there" / source.name
    shutil.copytree(source, place)
    before, count = contents(place.parent), 0
    cases = PATCHED if kind == "checkpoint" else REFRESHED
    take = patch if kind == "checkpoint" else refresh
    for case in mutations(made.folder, seed=4, n=cases):
        if refused(case, lambda: take(place, [delta.read(made.folder)]), made.folder, place):
            count += 1
            assert contents(place.parent) == before, case.name
        else:
            shutil.rmtree(place.parent)
            shutil.copytree(source, place)
    assert count > cases * 0.7
    assert checkpoint.latest(place.parent) == (place if kind == "checkpoint" else None)


def apply(home: Path, folder: Path) -> int:
    """How many of the cases a live model has refused, none of its cells changed."""
    with process_group() as ranks:
        config = saved.config(home, "row_wise")
        sharded = build(config, fit(config), ranks)
        rows, count = Rows(sharded, ranks), 0
        weights = sharded.model.state_dict().values()
        held = [shard.tensor for each in weights for shard in getattr(each, "local_shards", list)()]
        before = [tensor.clone() for tensor in held]
        for case in mutations(folder, seed=5, n=APPLIED):
            named = folder, Path("table")
            if refused(case, lambda: live.apply(delta.read(folder), rows, saved.VERSION, ranks), *named):
                count += 1
                assert all(torch.equal(a, b) for a, b in zip(held, before, strict=True)), case.name
            else:
                for tensor, old in zip(held, before, strict=True):
                    tensor.copy_(old)
        return count


def test_a_live_model_takes_nothing_of_a_wrong_one(home: Path, made: Delta) -> None:
    assert run_ranks(1, apply, home, made.folder)[0] > APPLIED * 0.7
