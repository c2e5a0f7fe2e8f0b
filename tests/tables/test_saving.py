"""Saving in the background: what is in a checkpoint, what a failure does, and what may go on meanwhile."""

import errno
import os
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from recsys.data.fit import fit
from recsys.distributed import process_group
from recsys.errors import InputError, RelayedError
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress, Saver
from recsys.tables.rows import Rows
from recsys.tables.version import Version
from recsys.train import build
from tests import wide
from tests.ranks import run_ranks
from tests.tables.test_loading import State, state_of, train
from tests.tables.test_sharding import config, readers

VERSION = Version("tables", "run")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("saving")
    wide.write(home / "data")
    return home


def change_while_saving(home: Path) -> tuple[State, State, bool]:
    """State when `save` returned and as loaded; between them rows are written and steps trained before a file is."""
    go, original = Event(), dcp.save

    def waits(*given: Any, **named: Any) -> Any:
        assert go.wait(60)
        return original(*given, **named)

    pytest.MonkeyPatch().setattr(dcp, "save", waits)  # never undone: the process is its own
    made = config(home / "data", "column_wise")
    with process_group() as ranks:
        encoder = fit(made)
        sharded = build(made, encoder, ranks)
        reader = readers(made, encoder, ranks.world_size)[ranks.rank]
        train(sharded, ranks, reader.epoch(0))
        with Saver(home / "changed", 1) as saver:
            saver.save(sharded, Progress(step=7), VERSION.at(7))
            before = state_of(sharded)
            row = torch.tensor([3 + ranks.rank])
            Rows(sharded, ranks).write("item_id", row, torch.ones(1, 8))
            train(sharded, ranks, reader.epoch(1))
            changed = not torch.equal(before.shards[0][2], state_of(sharded).shards[0][2])
            go.set()
        other = build(made, encoder, ranks)
        path = checkpoint.latest(home / "changed")
        assert path is not None and checkpoint.version_of(path) == VERSION.at(7)
        assert checkpoint.load(path, other) == Progress(step=7)
        return before, state_of(other), changed


def test_what_changes_after_save_has_returned_is_not_saved(home: Path) -> None:
    for before, loaded, changed in run_ranks(2, change_while_saving, home):
        assert changed
        assert [torch.equal(a[2], b[2]) for a, b in zip(before.shards, loaded.shards, strict=True)].count(False) == 0
        assert before.dense.keys() == loaded.dense.keys()
        assert all(torch.equal(before.dense[name], loaded.dense[name]) for name in before.dense)
        for name, pieces in before.sums.items():
            assert all(torch.equal(a[1], b[1]) for a, b in zip(pieces, loaded.sums[name], strict=True))


def full_disk(home: Path, full: int) -> tuple[list[str], list[str]]:
    """What is raised where rank `full` finds no space, and the folder after the next save."""
    made = config(home / "data", "row_wise")
    patch = pytest.MonkeyPatch()

    def no_space(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder, said = home / f"full {full}", []
    with process_group() as ranks:
        sharded = build(made, fit(made), ranks)
        with Saver(folder, 9) as saver:
            saver.save(sharded, Progress(step=1), VERSION)
            saver.wait()
            if ranks.rank == full:
                patch.setattr(os, "fsync", no_space)
            saver.save(sharded, Progress(step=2), VERSION)
            try:
                saver.save(sharded, Progress(step=3), VERSION)
            except InputError as error:
                said.append(f"{type(error).__name__} {error}")
            patch.undo()
            found = checkpoint.whole(folder)
            said += [path.name for path in found]
            saver.save(sharded, Progress(step=4), VERSION)
        return said, sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("full", [0, 1])
def test_a_full_disk_of_one_rank_ends_all_with_one_error(home: Path, full: int) -> None:
    results = run_ranks(2, full_disk, home, full)
    for rank, (said, left) in enumerate(results):
        kind = (RelayedError if rank else InputError).__name__
        path = home / f"full {full}" / "step-00000002.partial"
        refused = f"{kind} {path}: cannot be written: [Errno 28] No space left on device; a checkpoint takes 0."
        assert said[0].startswith(refused) and said[1:] == ["step-00000001"]
        assert left == ["step-00000001", "step-00000004"]


def test_an_error_of_training_is_told_rather_than_that_of_the_save(home: Path) -> None:
    made = config(home / "data", "row_wise")
    with process_group() as ranks:
        sharded = build(made, fit(made), ranks)
        (home / "a file").write_text("")
        with pytest.raises(ValueError, match="diverged"), Saver(home / "a file", 1) as saver:
            saver.save(sharded, Progress(step=1), VERSION)
            raise ValueError("diverged")
        with pytest.raises(InputError, match="cannot be written"), Saver(home / "a file", 1) as saver:
            saver.save(sharded, Progress(step=1), VERSION)
