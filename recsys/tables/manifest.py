"""The manifest of an exported folder: what each file must be, and the check that it still is."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.errors import InputError
from recsys.files import replacing

FORMAT = "thawrec-export"
VERSION = 2
NAME = "manifest.json"

Stamp = dict[str, int | str]
"""`bytes` and `sha256` of a file."""
Files = dict[str, Stamp]
"""Stamps by path within the folder."""


def stamp(path: Path) -> Stamp:
    """Size in bytes and SHA-256 of a file, read in a stream."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def write(folder: Path, files: Files, **told: Any) -> None:
    """Write the manifest: format, what the caller tells, the files, and the checksum of all that."""
    body = {"format": FORMAT, "version": VERSION, **told, "files": files}
    with replacing(folder / NAME) as partial:
        partial.write_text(json.dumps({**body, "sha256": _digest(body)}, indent=1) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        InputError: missing, changed since it was written, or of another format or version.
    """
    path = folder / NAME
    try:
        body = json.loads(path.read_bytes())
        told = body.pop("sha256")
    except FileNotFoundError:
        raise InputError(f"{path}: missing: not a whole export; tools.export makes one") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError(f"{path}: damaged: not a manifest") from None
    if (body.get("format"), body.get("version")) != (FORMAT, VERSION):
        raise InputError(
            f"{path}: expected {FORMAT} version {VERSION}, found {body.get('format')} version {body.get('version')}"
        )
    if told != _digest(body):
        raise InputError(f"{path}: damaged: its checksum is not that of its contents")
    return body


def verify(folder: Path) -> dict[str, Any]:
    """Check every byte of an exported folder against its manifest, which is returned.

    Raises:
        InputError: the first file that is missing, cut short, changed, or not named in the manifest.
    """
    body = read(folder)
    for name, expected in body["files"].items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{folder / NAME}: {name}: expected a path within the folder")
        if not path.is_file():
            raise InputError(f"{path}: missing")
        if path.stat().st_size != expected["bytes"]:
            raise InputError(f"{path}: {path.stat().st_size} bytes, expected {expected['bytes']}")
        if stamp(path) != expected:
            raise InputError(f"{path}: damaged: its SHA-256 is not {expected['sha256']}")
    # Readers take a table's folder as one data set: a stray part would join it unseen.
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != NAME and name not in body["files"]:
            raise InputError(f"{path}: not in the manifest")
    return body


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
