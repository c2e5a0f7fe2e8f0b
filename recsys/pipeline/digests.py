"""What inputs and outputs are told apart by: digests of files, folders and globs, read again where they may differ.

A file whose size and modification time are those of its last reading is not read again, as in git's index.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from glob import glob, has_magic
from pathlib import Path

from recsys.errors import InputError
from recsys.files import replacing
from recsys.tables import checkpoint

CHECKPOINTS = "checkpoints"


class Digests:
    """Digests by path, those of files kept in `cache`."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._known: dict[str, list[int | str]] = {}
        with suppress(OSError, ValueError):  # without it every file is read
            self._known = dict(json.loads(cache.read_text()))
        self._fresh = False

    def of(self, path: str) -> str | None:
        """Digest of a file, of a folder's files with their names, or of the files that a glob names; None: none there.

        Names that begin with a dot, locks and what is being written, are left out. A run's checkpoints are told by
        what they were trained to: rows that deltas have brought are in the run's log, and the log is a folder.
        """
        root = Path(path)
        if root.name == CHECKPOINTS:
            return _trained(root)
        if root.is_file():
            return self._file(root)
        if root.is_dir():
            inside = (file for file in root.rglob("*") if not _hidden(file.relative_to(root)))
            return self._files(root, inside)
        if has_magic(path):
            return self._files(Path(), (Path(name) for name in glob(path, recursive=True)))
        return None

    def save(self) -> None:
        """Keep what was read."""
        if self._fresh:
            with replacing(self.cache) as partial:
                partial.write_text(json.dumps(self._known))
            self._fresh = False

    def _files(self, root: Path, files: Iterable[Path]) -> str | None:
        told = sorted(f"{file.relative_to(root)}\0{self._file(file)}\n" for file in files if file.is_file())
        return hashlib.sha256("".join(told).encode()).hexdigest() if told else None

    def _file(self, path: Path) -> str:
        name, stat = str(path.absolute()), path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(name)
        if known and known[:2] == stamp:
            return str(known[2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[name] = [*stamp, digest]
        self._fresh = True
        return digest


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _trained(folder: Path) -> str | None:
    """Lineage, training run and step of the best and the newest checkpoint, without the deltas in them."""
    newest = checkpoint.latest(folder)
    if newest is None:
        return None
    try:
        return " ".join(checkpoint.version_of(path).base for path in (checkpoint.best(folder), newest))
    except InputError:
        return None
