"""A run's checkpoints as folders: sealed so that each is whole or none, found again after a crash, pruned.

    <run>/checkpoints/step-00000400/                what training saved after 400 steps
    <run>/checkpoints/step-00000400.d00000007/      the same, patched with deltas up to 7: it stands for the first
    <run>/checkpoints/step-00000400.old/            the one whose place another is about to take

A folder is a checkpoint if its manifest can be read and its files have the sizes told there. Anything else is what a
crash has left; the next save removes it. So no pointer is kept anywhere, not even to the best one: the manifests tell.
"""

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from recsys.data.pieces import Dealt, Leg
from recsys.errors import InputError
from recsys.files import discard, sync
from recsys.files import sweep as sweep_temporary
from recsys.tables import manifest
from recsys.tables.places import FORMAT
from recsys.tables.version import Version

PARTIAL = ".partial"
_OLD = ".old"
_NAME = re.compile(r"step-(?P<step>\d{8,})(\.d(?P<delta>\d{8,}))?(?P<old>\.old)?")

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `step` steps in all; of `epoch`, the legs `before`, and since then `epoch_step` steps of rows
    that are `dealt` so (None: as they are now); `worse` validations since the best."""

    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    dealt: Dealt | None = None
    before: tuple[Leg, ...] = ()
    best_auc: float = -1.0
    worse: int = 0
    done: bool = False


def place(folder: Path, step: int, delta: int = 0) -> Path:
    """Where the checkpoint of a step belongs, with the newest delta that it is patched with; 0 is none."""
    return folder / (f"step-{step:08d}" + (f".d{delta:08d}" if delta else ""))


def seal(
    partial: Path,
    path: Path,
    progress: Progress,
    version: Version,
    tensors: dict[str, Any],
    files: manifest.Files | None = None,
) -> None:
    """Make the folder `partial` the checkpoint `path`: write its manifest, then rename it. One there gives way.

    Args:
        partial: in the same folder as `path`; its files are on the disk (fsynced).
        tensors: as `recsys.tables.places.of_metadata` gives them, or as another checkpoint's manifest tells them.
        files: the stamps of its files; None: they are read for them.
    """
    if files is None:
        found = (file for file in sorted(partial.rglob("*")) if file.is_file())
        files = {file.relative_to(partial).as_posix(): manifest.stamp(file) for file in found}
    manifest.write(partial, FORMAT, files, progress=asdict(progress), origin=asdict(version), tensors=tensors)
    if path.exists():
        old = path.with_name(path.name + _OLD)
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    partial.rename(path)
    sync(path.parent)


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    found = whole(folder)
    return found[-1] if found else None


def best(folder: Path) -> Path:
    """The checkpoint with the best validation AUC: the newest that no validation before it had beaten.

    Raises:
        InputError: there is none.
    """
    for path in reversed(whole(folder)):
        if progress_of(path).worse == 0:
            return path
    raise InputError(f"{folder}: no trained checkpoint: run tools.train first")


def progress_of(path: Path) -> Progress:
    """Where the run stood when the checkpoint was saved.

    Raises:
        InputError: not a whole checkpoint.
    """
    return _told(path, "progress", Progress)


def version_of(path: Path) -> Version:
    """The lineage, dense part, step and newest delta of a checkpoint.

    Raises:
        InputError: not a whole checkpoint.
    """
    return _told(path, "origin", Version)


def whole(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, oldest first; of those of one step only the one with the newest delta."""
    newest: dict[str, Path] = {}
    for path in found(folder):
        if is_whole(path):
            newest.setdefault(path.name.partition(".")[0], path)
    return list(reversed(newest.values()))


def found(folder: Path) -> list[Path]:
    """Every folder with the name of a checkpoint, the newest first, whatever is left of what it held."""
    named = [(match, path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    ages = {path: (int(match["step"]), int(match["delta"] or 0), not match["old"]) for match, path in named}
    return sorted(ages, key=ages.__getitem__, reverse=True)


def is_whole(path: Path) -> bool:
    """Whether a folder has a readable manifest and files of the sizes told there; their bytes are not read.

    Raises:
        InputError: there is a manifest, but of another version, or the system refuses to read it: to go on as if the
            checkpoint were not there would lose it.
    """
    try:
        manifest.check_sizes(path, manifest.read(path, FORMAT)["files"])
    except manifest.UnreadableError:
        raise
    except InputError:
        return False
    return True


def sweep(folder: Path) -> None:
    """Remove what crashes have left, which are folders without a checkpoint's name. A checkpoint that cannot be read
    is left to the user. Nothing else may be writing one there."""
    sweep_temporary(folder)
    for path in folder.glob(f"step-*{PARTIAL}"):
        shutil.rmtree(path)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the last `keep` checkpoints and the best, and of one step all but that with the newest delta."""
    last = whole(folder)
    kept = {best(folder), *(last[-keep:] if keep else [])}
    for path in found(folder):
        if path not in kept and is_whole(path):
            discard(path)


def _told(path: Path, key: str, kind: type[T]) -> T:
    told = manifest.read(path, FORMAT).get(key)
    try:
        return TypeAdapter(kind).validate_python(told)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path / manifest.NAME}: {key} {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
