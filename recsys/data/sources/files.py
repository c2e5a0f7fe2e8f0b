"""The user's own files."""
from pathlib import Path
from recsys.config import Source
from recsys.data.log import Log
from recsys.errors import InputError


def load(source: Source) -> Log:
    raise NotImplementedError


def fingerprint(source: Source) -> list[str]:
    return []


def stamps(path: str | None) -> list[str]:
    """Name, size and modification time of the file, or of every file below the folder."""
    if not path or not Path(path).exists():
        raise InputError(f"data.source: {path}: no such file or folder")
    root = Path(path)
    found = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in found]
