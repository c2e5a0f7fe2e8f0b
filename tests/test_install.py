"""The install script's bookkeeping, with pip left out: what is kept, what is made anew, what is never touched."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from requirements import install as installer

LOCK = installer.ROOT / "requirements" / "cpu.lock"
Install = Callable[[Path, Path, int], None]


def fills(made: list[Path]) -> Install:
    """An install that writes an interpreter, and notes that it ran."""

    def install(venv: Path, lock: Path, descriptor: int) -> None:
        made.append(venv)
        (venv / "bin").mkdir()
        (venv / "bin" / "python").write_text("")

    return install


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    calls: list[Path] = []
    monkeypatch.setattr(installer, "install", fills(calls))
    return calls


def test_a_second_run_changes_nothing(tmp_path: Path, made: list[Path]) -> None:
    for _ in range(2):
        installer.ensure(tmp_path / "env", LOCK)
    assert len(made) == 1


def test_a_changed_lock_makes_it_anew(tmp_path: Path, made: list[Path]) -> None:
    lock = tmp_path / "my.lock"
    for text in ("torch==1.0\n", "torch==2.0\n"):
        lock.write_text(text)
        installer.ensure(tmp_path / "env", lock)
        assert not (tmp_path / "env" / "left-over").exists()
        (tmp_path / "env" / "left-over").touch()
    assert len(made) == 2


def test_a_servers_environment_does_not_depend_on_this_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installer, "ROOT", tmp_path)
    keys = []
    for name in ("one", "another"):
        (tmp_path / "pyproject.toml").write_text(
            f'build-system = {{}}\nproject.name = "{name}"\ntool.setuptools = {{}}'
        )
        keys += [installer.key_of(LOCK), installer.key_of(LOCK.with_name("vllm.lock"))]
    assert keys[0] != keys[2] and keys[1] == keys[3]


def test_an_install_that_stopped_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(venv: Path, lock: Path, descriptor: int) -> None:
        fills([])(venv, lock, descriptor)
        raise installer.InstallError("stopped")

    monkeypatch.setattr(installer, "install", stops)
    with pytest.raises(installer.InstallError):
        installer.ensure(tmp_path / "env", LOCK)
    assert installer.state_of(tmp_path / "env") == installer.UNFINISHED
    made: list[Path] = []
    monkeypatch.setattr(installer, "install", fills(made))
    installer.ensure(tmp_path / "env", LOCK)
    assert made and installer.state_of(tmp_path / "env") == installer.key_of(LOCK)


def test_an_environment_whose_interpreter_is_gone_is_made_anew(tmp_path: Path, made: list[Path]) -> None:
    installer.ensure(tmp_path / "env", LOCK)
    (tmp_path / "env" / "bin" / "python").unlink()
    installer.ensure(tmp_path / "env", LOCK)
    assert len(made) == 2


def test_somebody_elses_folder_is_left_alone(tmp_path: Path, made: list[Path]) -> None:
    precious = tmp_path / "env" / "precious"
    precious.parent.mkdir()
    precious.touch()
    with pytest.raises(installer.InstallError, match="was not made by this project's Makefile"):
        installer.ensure(tmp_path / "env", LOCK)
    assert precious.exists() and not made


def test_an_orphan_of_a_killed_install_still_holds_the_lock(tmp_path: Path) -> None:
    with installer.locked(tmp_path / "env") as descriptor:
        orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    other = os.open(tmp_path / "env.lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    orphan.communicate()
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
