"""A disk that is full while training saves: one error that says what was needed; with room made, the run goes on."""

import io
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest

from recsys.config import Config
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, manifest
from recsys.tables.places import FORMAT
from recsys.train import train
from tests import tiny
from tests.ranks import run_ranks
from tests.training import dying

TRAIN = {"batch_size": 16, "shuffle_rows": 64, "epochs": 1, "evals_per_epoch": 3, "patience": 99, "keep": 3}


def train_and_tell(config: Config, largest_file: int = 0) -> tuple[str, str]:
    """What training raises and prints; once its first checkpoint is whole no file may grow larger (0: as it likes)."""

    def limit() -> None:
        while checkpoint.latest(Path(config.run) / "checkpoints") is None:
            sleep(0.05)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))

    if largest_file:
        dying.before(5, limit)
    with process_group() as ranks, redirect_stderr(io.StringIO()) as printed:
        try:
            train(config, ranks)
        except InputError as error:
            return str(error), printed.getvalue()
        return "", printed.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of three checkpoints, which nothing interrupts."""
    folder = tmp_path_factory.mktemp("full")
    made = tiny.config(tiny.write(folder / "data"), folder / "whole", train=TRAIN)
    assert run_ranks(2, train_and_tell, made)[0] == ("", "")
    return made


@pytest.fixture
def disk(tmp_path: Path, whole: Config) -> Iterator[Path]:
    """A disk with room for all of the run but half of its last checkpoint."""
    run, folder = Path(whole.run), tmp_path / "disk"
    folder.mkdir()
    size = taken(run) - taken(run / "checkpoints" / "step-00000007") // 2
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a disk of its own cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def taken(path: Path) -> int:
    """Bytes of the disk that a folder takes."""
    return sum(each.stat().st_blocks * 512 for each in path.rglob("*"))


def newest(config: Config) -> tuple[str, manifest.Files]:
    """The name of the newest checkpoint and its files of tensors, every byte of which is what was saved."""
    path = checkpoint.latest(Path(config.run) / "checkpoints")
    assert path is not None
    files = manifest.verify(path, FORMAT)["files"]
    return path.name, {name: stamp for name, stamp in files.items() if name.endswith(".distcp")}


def test_a_full_disk_and_then_room_again(whole: Config, disk: Path) -> None:
    made = replace(whole, run=str(disk / "run"))
    [(raised, printed), (relayed, quiet)] = run_ranks(2, train_and_tell, made)
    partial = disk / "run" / "checkpoints" / "step-00000007.partial"
    assert printed == f"error: {raised}\n" and quiet == ""
    assert relayed.startswith(f"{partial}: cannot be written: ")
    assert re.fullmatch(
        rf"{partial}: cannot be written: \[Errno 28\] No space left on device; a checkpoint takes 0\.\d MB and some, "
        r"0\.\d MB are free",
        raised,
    )
    assert newest(made)[0] == "step-00000006" and not partial.exists()
    subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
    assert run_ranks(2, train_and_tell, made)[0] == ("", "")
    assert newest(made) == newest(whole)


def test_a_file_that_may_not_grow(whole: Config, tmp_path: Path) -> None:
    made = replace(whole, run=str(tmp_path / "run"))
    raised, _ = run_ranks(2, train_and_tell, made, 10_000)[0]
    assert "step-00000006.partial: cannot be written: [Errno 27] File too large; a checkpoint takes" in raised
    assert newest(made)[0] == "step-00000003"
    assert run_ranks(2, train_and_tell, made)[0] == ("", "")
    assert newest(made) == newest(whole)
