"""The manifest of a folder: what each of its files must be, and the check that it still is."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.errors import InputError
from recsys.files import replacing

NAME = "manifest.json"

Stamp = dict[str, int | str]
"""`bytes` and `sha256` of a file."""
Files = dict[str, Stamp]
"""Stamps by path within the folder."""


class UnreadableError(InputError):
    """A manifest that may well be sound, but not for this program, or not now."""


@dataclass(frozen=True)
class Format:
    """What a folder is; `missing` is said of one without a manifest."""

    name: str
    version: int
    missing: str


def stamp(path: Path) -> Stamp:
    """Size in bytes and SHA-256 of a file, read in a stream."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def write(folder: Path, kind: Format, files: Files, **told: Any) -> None:
    """Write the manifest: format, what the caller tells, the files, and the checksum of all that."""
    body = {"format": kind.name, "version": kind.version, **told, "files": files}
    with replacing(folder / NAME) as partial:
        partial.write_text(json.dumps({**body, "sha256": _digest(body)}, indent=1) + "\n")


def read(folder: Path, kind: Format) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        InputError: missing, changed since it was written, or of another format or version.
    """
    path = folder / NAME
    try:
        body = json.loads(path.read_bytes())
        told = body.pop("sha256")
    except FileNotFoundError:
        raise InputError(f"{path}: missing: {kind.missing}") from None
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error}") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise InputError(f"{path}: damaged: not a manifest") from None
    if (body.get("format"), body.get("version")) != (kind.name, kind.version):
        raise UnreadableError(
            f"{path}: expected {kind.name} version {kind.version}, found {body.get('format')} version "
            f"{body.get('version')}"
        )
    if told != _digest(body):
        raise InputError(f"{path}: damaged: its checksum is not that of its contents")
    _require_files(path, body.get("files"))
    return body


def verify(folder: Path, kind: Format) -> dict[str, Any]:
    """Check every byte of a folder against its manifest, which is returned.

    Raises:
        InputError: the first file that is missing, cut short, changed, or not named in the manifest.
    """
    body = read(folder, kind)
    check_sizes(folder, body["files"])
    check_bytes(folder, body["files"], body["files"])
    known = {NAME, *body["files"]}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in known and not _left_over(name):
            raise InputError(f"{path}: not in the manifest")
    return body


def check_sizes(folder: Path, files: Files) -> None:
    """Require every file to be there in full; its bytes are not read.

    Raises:
        InputError: the first file that is missing or of another size.
    """
    for name, expected in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: missing: {error}") from None
        if size != expected["bytes"] or not path.is_file():
            raise InputError(f"{path}: {size} bytes, expected {expected['bytes']}")


def check_bytes(folder: Path, files: Files, names: Iterable[str]) -> None:
    """Require the bytes of the files named to be those of the manifest.

    Raises:
        InputError: the first file whose bytes have changed.
    """
    for name in names:
        try:
            found = stamp(folder / name)
        except OSError as error:
            raise InputError(f"{folder / name}: cannot be read: {error}") from None
        if found != files[name]:
            raise InputError(f"{folder / name}: damaged: its SHA-256 is not {files[name]['sha256']}")


def _left_over(name: str) -> bool:
    """Whether a file that no manifest names may lie there: a process that died while it changed the folder left it.

    Readers take a table's folder as one data set, which a stray part would join unseen; not so a hidden file. Deltas
    are read by name alone.
    """
    return name.startswith("deltas/") or Path(name).name.startswith(".")


def _require_files(path: Path, files: Any) -> None:
    if not isinstance(files, dict):
        raise InputError(f"{path}: expected files by name")
    for name, found in files.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path}: {name}: expected a path within the folder")
        if not isinstance(found, dict) or found.keys() != {"bytes", "sha256"} or not isinstance(found["bytes"], int):
            raise InputError(f"{path}: {name}: expected its bytes and sha256")


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
