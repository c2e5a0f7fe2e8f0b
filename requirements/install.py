"""Make a virtual environment that matches a lock, or leave it alone when it already does.

    python3.11 requirements/install.py --lock requirements/cpu.lock --venv .venv

Safe to run twice, at once from two shells, and after being killed at any moment: the environment's state file says
`unfinished` from before its first file until the import check has passed, and an unfinished environment is made anew.
"""

import sys

if sys.version_info[:2] != (3, 11):
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"error: thawrec needs Python 3.11, and {sys.executable} is {found}; say make PYTHON=/path/to/python3.11")

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = "thawrec-install"
UNFINISHED = "unfinished"
# Versions are compared because a build of fbgemm that belongs to another torch may import and then lack operators.
CHECK = """
import re, sys, warnings
from importlib.metadata import version
warnings.simplefilter("ignore")
for line in open(sys.argv[1]):
    if line[0] == "#":
        continue
    name, wanted = line.strip().split("==")
    assert version(name).split("+")[0] == wanted, f"{name} {version(name)} is installed, the lock says {wanted}"
"""
IMPORTS = """
import torch, fbgemm_gpu, torchrec, recsys, tools
torch.ops.fbgemm.asynchronous_complete_cumsum(torch.tensor([1, 2]))
"""
VLLM_IMPORTS = "import vllm.entrypoints.openai.api_server"


class InstallError(Exception):
    """An install step failed; the message is for the user."""


def serves(lock: Path) -> bool:
    """Whether the lock is that of a vLLM server, whose environment has nothing of this project."""
    return lock.stem == "vllm"


def key_of(lock: Path) -> str:
    """A digest of all that the installed environment depends on; ruff's or pytest's settings are not among it."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = [pyproject["build-system"], pyproject["project"], pyproject["tool"]["setuptools"]]
    wanted = {
        "lock": lock.read_text(),
        "project": None if serves(lock) else project,
        "root": str(ROOT),  # scripts and the editable install hold absolute paths: a moved checkout needs new ones
        "index": os.environ.get("TORCH_INDEX_URL", ""),
    }
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def state_of(venv: Path) -> str | None:
    """The key that the environment was finished for, `unfinished`, or None for one that is not ours or not there."""
    try:
        state = (venv / STATE).read_text()
    except FileNotFoundError:
        return None
    return state if (venv / "bin" / "python").exists() else UNFINISHED


def write_state(venv: Path, state: str) -> None:
    """Replace the state file in one step."""
    fresh = venv / f"{STATE}.new"
    fresh.write_text(state)
    fresh.replace(venv / STATE)


@contextmanager
def locked(venv: Path) -> Iterator[int]:
    """Hold the environment's lock; yields its descriptor, which every child must inherit.

    A lock shared with the children is still held while pip outlives a killed parent, so that no second install starts
    to delete what an orphan is still writing.
    """
    descriptor = os.open(venv.with_name(venv.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another install into {venv.name} to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def say(line: str) -> None:
    """One line of progress, seen at once also when stdout is a file."""
    print(f"install: {line}", flush=True)


def step(line: str, command: list[str], descriptor: int) -> None:
    """Run one quiet command of the install.

    Raises:
        InstallError: it exited non-zero.
    """
    say(line)
    if subprocess.run(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL, cwd=ROOT, check=False).returncode:
        raise InstallError(
            f"the install stopped at: {line}\nmake again to start it afresh; the command was\n  "
            + " ".join(command[:9])
        )


def clear(venv: Path, state: str | None) -> None:
    """Remove an environment of ours and start its successor's state file.

    Raises:
        InstallError: the folder holds something that this script did not make.
    """
    if state is None and venv.exists() and any(venv.iterdir()):
        raise InstallError(
            f"{venv} was not made by this project's Makefile: move it away, or say make VENV=other-folder"
        )
    # Whole folders are renamed, so that a kill at any moment leaves no environment of ours without its state file.
    old, new = (venv.with_name(f"{venv.name}.{what}") for what in ("old", "new"))
    for folder in (old, new):
        shutil.rmtree(folder, ignore_errors=True)
    new.mkdir(parents=True)
    write_state(new, UNFINISHED)
    if venv.exists():
        venv.rename(old)
    new.rename(venv)
    shutil.rmtree(old, ignore_errors=True)


def install(venv: Path, lock: Path, descriptor: int) -> None:
    """Fill an empty environment in the order that works.

    torch comes first and with its dependencies, because its CUDA builds bring libraries that no lock here names.
    torchrec comes without its own, because they name the CUDA fbgemm-gpu and would overwrite the CPU build.
    """
    python = str(venv / "bin" / "python")
    pip = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-qq",
        "install",
        "--no-warn-conflicts",
        "--root-user-action=ignore",
    ]
    index = os.environ.get("TORCH_INDEX_URL")
    where = ["--extra-index-url", index] if index else []
    torch = next(line for line in lock.read_text().splitlines() if line.startswith("torch=="))
    relative = lock.relative_to(ROOT) if lock.is_relative_to(ROOT) else lock
    step(f"virtual environment {venv.name}", [sys.executable, "-m", "venv", str(venv)], descriptor)
    step(f"{torch} (the longest step)", [*pip, "-c", str(lock), *where, torch, "setuptools", "wheel"], descriptor)
    step(f"the rest of {relative}", [*pip, "--no-deps", "--no-build-isolation", *where, "-r", str(lock)], descriptor)
    if not serves(lock):
        step("this project, editable", [*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], descriptor)
    imports = VLLM_IMPORTS if serves(lock) else IMPORTS
    step("import check", [python, "-c", CHECK + imports, str(lock)], descriptor)


def ensure(venv: Path, lock: Path) -> None:
    """Leave an environment at `venv` that matches `lock` and pyproject.toml.

    Raises:
        InstallError: a step failed, or `venv` is a folder of somebody else's.
    """
    key = key_of(lock)
    if state_of(venv) == key:
        return
    venv.parent.mkdir(parents=True, exist_ok=True)
    with locked(venv) as descriptor:
        state = state_of(venv)
        if state == key:
            return
        if state is not None:
            why = "was not finished" if state == UNFINISHED else "was made for another lock, project file or folder"
            say(f"{venv.name} {why}: making it anew")
        started = time.monotonic()
        clear(venv, state)
        install(venv, lock, descriptor)
        write_state(venv, key)
        say(f"{venv.name} is ready after {time.monotonic() - started:.0f} s")


def main() -> None:
    """Parse the command line and install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, required=True, help="a file of name==version lines")
    parser.add_argument("--venv", type=Path, required=True, help="the environment's folder")
    arguments = parser.parse_args()
    try:
        ensure(arguments.venv.absolute(), arguments.lock.absolute())
    except InstallError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
