"""Entries that are appended to a file, one JSON object a line: what a crash cuts off was never there."""

import json
import os
from pathlib import Path
from typing import Any


def entries(path: Path) -> list[dict[str, Any]]:
    """All whole entries, oldest first."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add an entry; it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        # After a line that was cut off, on a line of its own.
        lead = "\n" if file.tell() else ""
        file.write(lead + json.dumps(entry))
        file.flush()
        os.fsync(file.fileno())
