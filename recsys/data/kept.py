"""What a reading of all rows of a dataset has found, kept beside them: later runs on the same files start without it.

<dataset>/.kept/<kind>-<digest>    of what was asked, and of each file's name, size and time of change
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from recsys.files import remove, replacing

FOLDER = ".kept"


def place(dataset: Path, kind: str, asked: object, files: Iterable[Path]) -> Path:
    """Where it is kept, if it is: `asked` is anything that JSON can tell."""
    stats = [(str(file.relative_to(dataset)), file.stat()) for file in files]
    told = [asked, [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]]
    return dataset / FOLDER / f"{kind}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"


def keep(where: Path, write: Callable[[Path], object]) -> None:
    """Keep what `write` writes, a file or a folder, unless another process has done so meanwhile.

    Of a dataset that cannot be written to nothing is kept.
    """
    if not where.exists():
        with suppress(OSError), replacing(where) as partial:
            write(partial)


def drop(where: Path) -> None:
    """Forget what is damaged."""
    with suppress(OSError):
        remove(where)
