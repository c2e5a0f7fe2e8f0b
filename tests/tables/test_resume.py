"""A damaged checkpoint is stepped over: the run goes on from the one before, says so, and ends as it would have."""

import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.config import Config
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, manifest
from recsys.tables.places import FORMAT
from recsys.train import train
from tests import tiny
from tests.ranks import run_ranks

TRAIN = {"batch_size": 16, "shuffle_rows": 64, "epochs": 1, "evals_per_epoch": 3, "patience": 99, "keep": 3}
STEPS = [3, 6, 7]


def flip(path: Path) -> None:
    """A bit in the middle of a file of tensors: the file is as long as before."""
    file = path / "__1_0.distcp"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(path: Path) -> None:
    """Half of a file of tensors, as a system leaves it that lost power before its disk had written."""
    file = path / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose(path: Path) -> None:
    (path / "__1_0.distcp").unlink()


def unseal(path: Path) -> None:
    (path / manifest.NAME).write_text("{")


DAMAGES = {
    flip: "__1_0.distcp: damaged: its SHA-256 is not ",
    cut: " bytes, expected ",
    lose: "__1_0.distcp: missing: ",
    unseal: "manifest.json: damaged: not a manifest",
}
Damage = Callable[[Path], None]


def train_all(configs: list[Config]) -> list[tuple[str, str]]:
    """What each training raises and prints."""
    told = []
    with process_group() as ranks:
        for config in configs:
            with redirect_stderr(io.StringIO()) as printed:
                try:
                    assert train(config, ranks).done
                    raised = ""
                except InputError as error:
                    raised = str(error)
            told.append((raised, printed.getvalue()))
    return told


def saved(run: Path, step: int) -> Path:
    return checkpoint.place(run / "checkpoints", step)


def names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


def sums(path: Path) -> object:
    """Where a checkpoint stands and the checksums of its tensors."""
    found = manifest.verify(path, FORMAT)
    del found["files"][".metadata"]  # holds a random name
    return found["files"], found["progress"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of three checkpoints."""
    folder = tmp_path_factory.mktemp("resume")
    made = tiny.config(tiny.write(folder / "data"), folder / "whole", train=TRAIN)
    run_ranks(2, train_all, [made])
    assert names(folder / "whole") == {saved(folder, step).name for step in STEPS}
    return made


def copied(whole: Config, name: str) -> Config:
    run = Path(whole.run).with_name(name)
    shutil.copytree(whole.run, run)
    return replace(whole, run=str(run))


def test_the_one_before_is_used_and_that_is_said(whole: Config) -> None:
    configs = {damage: copied(whole, damage.__name__) for damage in DAMAGES}
    both = copied(whole, "both")
    for damage, made in configs.items():
        damage(saved(Path(made.run), 7))
    flip(saved(Path(both.run), 7))
    cut(saved(Path(both.run), 6))
    (saved(Path(both.run), 9).with_suffix(".partial")).mkdir()
    expected = sums(saved(Path(whole.run), 7))
    told = run_ranks(2, train_all, [*configs.values(), both])
    for (damage, made), (raised, printed), quiet in zip(configs.items(), told[0], told[1], strict=False):
        run = Path(made.run)
        first, last = printed.splitlines()
        assert raised == "" and first.startswith(str(saved(run, 7))) and DAMAGES[damage] in first
        assert first.endswith("; set aside as step-00000007.damaged")
        assert last == f"{run}: training goes on from step-00000006" and quiet == ("", "")
        assert names(run) == {*(saved(run, step).name for step in STEPS), "step-00000007.damaged"}
        assert sums(saved(run, 7)) == expected
    lines = told[0][-1][1].splitlines()
    assert [line.rsplit(" ", 1)[-1] for line in lines] == [
        "finished", "step-00000007.damaged", "step-00000006.damaged", "step-00000003"
    ]  # fmt: skip
    assert sums(saved(Path(both.run), 7)) == expected


def test_where_none_is_intact_nothing_begins_anew(whole: Config) -> None:
    made = copied(whole, "none")
    for step in STEPS:
        flip(saved(Path(made.run), step))
    [(raised, printed)], [(relayed, _)] = run_ranks(2, train_all, [made])
    assert raised == relayed and printed == ""
    assert raised.startswith(f"{saved(Path(made.run), 7)}/__1_0.distcp: damaged")
    assert raised.endswith(f"no older checkpoint is intact: to begin anew, remove {made.run}")
    assert names(Path(made.run)) == names(Path(whole.run))
