"""A process killed at any moment of a save leaves the old checkpoint or the new one, whole."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from recsys.config import Config
from recsys.data.fit import fit
from recsys.distributed import process_group
from recsys.tables import checkpoint, manifest
from recsys.tables.checkpoint import Progress, Saver
from recsys.tables.places import FORMAT
from recsys.tables.sharding import Sharded
from recsys.tables.version import Version
from recsys.train import build
from tests import crash, live, tiny
from tests.ranks import RanksFailed, run_ranks

VERSION = Version("tables", "run")
OLD, NEW = 1.0, 2.0
"""What every cell of the model and of its optimizer state is, before the save and after it."""


def config(home: Path) -> Config:
    return tiny.config(home / "data", home / "run", features=[{"name": "gender", "of": "user"}])


def fill(sharded: Sharded, value: float) -> None:
    states = sharded.dense_optimizer.state_dict()["state"].values()
    with torch.no_grad():
        for tensor in [*sharded.model.state_dict().values(), *sharded.states().values()]:
            for _, part in live.held(tensor):
                part.fill_(value)
        for tensor in (tensor for state in states for tensor in state.values()):
            tensor.fill_(value)


def save(home: Path, folder: Path, step: int, value: float) -> None:
    """Save in the background, as training does."""
    with process_group() as ranks:
        made = config(home)
        sharded = build(made, fit(made), ranks)
        sharded.dense_optimizer.init_state()
        fill(sharded, value)
        with Saver(folder, keep=1) as saver:
            saver.save(sharded, Progress(step=step), VERSION.at(step))


def look(home: Path, folders: list[Path]) -> list[tuple[str, set[float], list[str]]]:
    """Of each folder the newest checkpoint's name, the values in it, and the names there after one more save."""
    found = []
    with process_group() as ranks:
        made = config(home)
        sharded = build(made, fit(made), ranks)
        for folder in folders:
            newest = checkpoint.latest(folder)
            assert newest is not None
            manifest.verify(newest, FORMAT)
            fill(sharded, -1.0)
            assert checkpoint.load(newest, sharded).step == checkpoint.version_of(newest).step
            shards, dense = live.shards(sharded)
            states = sharded.dense_optimizer.state_dict()["state"].values()
            values = [
                *(shard[2] for shard in shards),
                *dense.values(),
                *(v for state in states for v in state.values()),
            ]
            values += [sums for pieces in live.sums(sharded).values() for _, sums in pieces]
            seen = {number for value in values for number in value.unique().tolist()}
            checkpoint.save(folder, sharded, Progress(step=9), 1, VERSION)
            found.append((newest.name, seen, sorted(path.name for path in folder.iterdir())))
    return found


@pytest.mark.parametrize("step", [1, 2], ids=["in the place of another", "the next"])
def test_killed_while_saving(tmp_path: Path, step: int) -> None:
    home = tmp_path
    tiny.write(home / "data")
    run_ranks(1, save, home, home / "old", 1, OLD)

    def copy(name: str) -> Path:
        return shutil.copytree(home / "old", home / name / "checkpoints")

    done = copy("done")
    names = crash.points(done, save, home, done, step, NEW)
    partial, final = f"step-{step:08d}.partial", f"step-{step:08d}"
    for call in (f"fsync {partial}/__0_0.distcp", f"fsync {partial}", f"rename {partial} -> {final}", "fsync ."):
        assert {f"before {call}", f"after {call}"} <= {name[3:] for name in names}
    renamed = names.index(next(name for name in names if name.endswith(f"after rename {partial} -> {final}")))
    killed: list[tuple[str, Path]] = []
    for point in [names[renamed - 1], *crash.chosen(names, cases=2)]:
        folder = copy(f"killed {len(killed)}")
        crash.kill(point, folder, save, home, folder, step, NEW)
        killed.append((point, folder))
    [found] = run_ranks(1, look, home, [folder for _, folder in killed])
    for (point, _), (name, values, left) in zip(killed, found, strict=True):
        if names.index(point) < renamed:
            assert values == {OLD} and name in ("step-00000001", "step-00000001.old"), point
        else:
            assert values == {NEW} and name == final, point
        assert left == ["step-00000009"], point


def save_and_die(home: Path, folder: Path) -> None:
    """Save with the second rank dead where it would make its file durable."""

    def dies(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if os.environ["RANK"] == "1":
        pytest.MonkeyPatch().setattr(os, "fsync", dies)  # never undone: the process is its own
    save(home, folder, 2, NEW)


def test_one_of_two_ranks_killed_while_saving(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data")
    folder = tmp_path / "checkpoints"
    run_ranks(2, save, tmp_path, folder, 1, OLD)
    with pytest.raises(RanksFailed, match=r"exit code -9") as failed:
        run_ranks(2, save_and_die, tmp_path, folder)
    assert "rank 0 of 2: Traceback" in str(failed.value) and "did not end in time" not in str(failed.value)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002.partial"]
    assert run_ranks(1, look, tmp_path, [folder]) == [[("step-00000001", {OLD}, ["step-00000009"])]]
