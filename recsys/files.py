"""Writing so that a reader sees all of it or none: under a temporary sibling name, fsynced, then renamed."""

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` for a file or a directory; takes its name when the block ends without an error.

    A directory cannot be exchanged in one step: a process killed between the two renames leaves `path` missing and its
    old content beside it, which the next call puts back first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _sweep(path)
    try:
        yield temporary
        _sync_all(temporary)
        if temporary.is_dir() and path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            remove(old)
            path.rename(old)
            temporary.rename(path)
            remove(old)
        else:
            temporary.replace(path)
        sync(path.parent)
    finally:
        remove(temporary)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A temporary, empty folder beside `path`, gone when the block ends unless it has another name by then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        remove(temporary)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """A temporary, empty folder beside `path`, which takes its name when the block ends without an error.

    Raises:
        FileExistsError: something has the name by then.
    """
    with beside(path) as temporary:
        yield temporary
        _sync_all(temporary)
        try:
            temporary.rename(path)  # onto a folder that holds anything it fails
        except OSError as error:
            raise FileExistsError(path) if path.exists() else error from None
        sync(path.parent)


def locked(path: Path, shared: bool = False, wait: bool = True) -> AbstractContextManager[int]:
    """Lock the file `path`, which need not be there, until the end of the block or of the process.

    The block is given its descriptor: a child process that inherits it holds the lock as well, to its own end.

    Args:
        shared: let others in that ask for the same.
        wait: for whoever holds it.

    Raises:
        BlockingIOError: it is held, and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        file.close()
        raise
    return _closing(file)


@contextmanager
def _closing(file: IO[str]) -> Iterator[int]:
    with file:
        yield file.fileno()


def discard(path: Path) -> None:
    """Remove a folder so that it is never seen with a part of its files gone."""
    _sweep(path)
    gone = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.rename(gone)
    remove(gone)


def sweep(folder: Path) -> None:
    """Remove or put back whatever killed processes left in a folder by the functions above."""
    for left in folder.glob(".*.*.*"):
        name = left.name[1:].rsplit(".", 2)[0]
        _sweep(folder / name)


def _sweep(path: Path) -> None:
    """Remove what killed processes left beside `path`, or put it back; what a living one is writing stays."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        owner, _, kind = left.name.removeprefix(f".{path.name}.").partition(".")
        if kind in ("tmp", "old") and owner.isdigit() and (int(owner) == os.getpid() or not _alive(int(owner))):
            if kind == "old" and not path.exists():
                left.rename(path)
            else:
                remove(left)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_all(path: Path) -> None:
    if path.is_dir():
        for inside in path.rglob("*"):
            if not inside.is_symlink():
                sync(inside)
    sync(path)


def sync(path: Path) -> None:
    """Flush a file or a directory's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
