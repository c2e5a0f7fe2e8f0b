"""What a reading of all rows of a dataset has found, kept beside them: later runs on the same files start without it.

<dataset>/.kept/<kind>-<digest>    of what was asked, and of each file's name, size and time of change
<run>/.kept/<kind>-<digest>        the same of a remote dataset, for its run alone
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from recsys.config import Config
from recsys.data.parquet import stamp
from recsys.errors import InputError
from recsys.files import remove, replacing
from recsys.storage import Location, at

FOLDER = ".kept"


def place(config: Config, kind: str, asked: object, files: Iterable[Location]) -> Path:
    """Where it is kept of the dataset of `config`, if it is: `asked` is anything that JSON can tell.

    Raises:
        InputError: a file has gone, or cannot be looked at.
    """
    dataset = at(config.data.path)
    try:
        told = [asked, [[str(file).removeprefix(f"{dataset}/"), *stamp(file)] for file in files]]
    except OSError as error:
        raise InputError(f"{dataset}: cannot be looked at: {error}") from None
    if not isinstance(dataset, Path):
        told.append(str(dataset))
    folder = dataset if isinstance(dataset, Path) else Path(config.run)
    return folder / FOLDER / f"{kind}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"


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
