"""Files made wrong in every way that a disk, a crash or a stranger could think of, one case at a time.

    for case in mutations(folder, seed=1, n=500):
        with pytest.raises(InputError, match=...):      # the folder is as `case.name` says until the next case
            read(folder)

Bytes are flipped, cut off, added, cleared, exchanged for others or for a pickle that would run code; files go missing;
numbers, names and lists of a JSON file become huge, negative, empty or of another kind. Half of the changes are sealed
again (`case.sealed`): the manifest tells their checksums, so that nothing but what is read can tell that it is wrong.
"""

import hashlib
import json
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
VALUES: list[Any] = [
    2**31, 2**62, 2**70, -1, 0, 1, 1e308, float("nan"), "", "x" * 5000, "\0", "../x", "/etc/passwd", ".",
    None, True, [], [[]], {}, {"a": 1}, [2**62, 2**62],
]  # fmt: skip


class Runs:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


@dataclass(frozen=True)
class Case:
    """What was done to which file; `sealed`: the manifest agrees with it."""

    name: str
    path: Path
    sealed: bool


def mutations(folder: Path, seed: int, n: int) -> Iterator[Case]:
    """Change one file of a folder `n` times; each change is undone before the next, and after the last."""
    draw = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = (folder / MANIFEST).read_bytes()
    mark = folder.parent / "a pickle ran"
    for number in range(n):
        path = draw.choice(files)
        original = path.read_bytes()
        as_json = path.suffix == ".json" and draw.random() < 0.75
        how, changed = _edit(original, draw) if as_json else _damage(original, draw, mark)
        sealed = draw.random() < 0.5 and changed is not None
        if changed is None:
            path.unlink()
        else:
            path.write_bytes(changed)
            if sealed:
                sealed = seal(folder, path)
        yield Case(f"case {number} of seed {seed}: {path.relative_to(folder)}: {how}", path, sealed)
        path.write_bytes(original)
        (folder / MANIFEST).write_bytes(told)
        assert not mark.exists(), "a pickle was opened"


def _damage(data: bytes, draw: random.Random, mark: Path) -> tuple[str, bytes | None]:
    at = draw.randrange(len(data)) if data else 0
    n = draw.choice([1, 2, 8, 64, 4096])
    kinds: dict[str, Callable[[], bytes | None]] = {
        "a bit flipped": lambda: (
            data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :] if data else b"x"
        ),
        "bytes exchanged": lambda: data[:at] + draw.randbytes(min(n, len(data) - at)) + data[at + n :],
        "huge numbers": lambda: data[:at] + b"\xff" * min(n, len(data) - at) + data[at + n :],
        "cleared": lambda: data[:at] + bytes(min(n, len(data) - at)) + data[at + n :],
        "cut off": lambda: data[:at],
        "the beginning gone": lambda: data[at + 1 :],
        "bytes put in": lambda: data[:at] + draw.randbytes(n) + data[at:],
        "bytes added": lambda: data + draw.randbytes(n),
        "twice": lambda: data + data,
        "empty": lambda: b"",
        "gone": lambda: None,
        "a pickle": lambda: pickle.dumps(Runs(mark)),
        "a pickle within": lambda: data[:at] + pickle.dumps(Runs(mark)) + data[at:],
    }
    how = draw.choice(sorted(kinds))
    changed = kinds[how]()
    return (f"{how} at byte {at}", changed) if changed != data else ("bytes added", data + b"\0")


def _edit(data: bytes, draw: random.Random) -> tuple[str, bytes]:
    """A JSON file with one or two of its values changed, removed or added."""
    tree = json.loads(data)
    said = []
    for _ in range(draw.choice([1, 1, 2])):
        places = list(_places(tree))
        path, holder, key = draw.choice(places)
        if draw.random() < 0.2:
            del holder[key]
            said.append(f"{path} removed")
        else:
            value = draw.choice([each for each in VALUES if each != holder[key]])
            holder[key] = value
            said.append(f"{path} = {str(value)[:20]}")
    return ", ".join(said), json.dumps(tree).encode()


def _places(tree: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else []
    for key, value in items:
        yield f"{path}/{key}", tree, key
        yield from _places(value, f"{path}/{key}")


def seal(folder: Path, path: Path) -> bool:
    """Make the manifest agree with the file; False: it is the manifest, and no longer one that could."""
    try:
        told = json.loads((folder / MANIFEST).read_bytes())
        told.pop("sha256", None)
        if path.name != MANIFEST:
            data = path.read_bytes()
            told["files"][path.relative_to(folder).as_posix()] = {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
    except (ValueError, AttributeError, TypeError):
        return False
    body = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    (folder / MANIFEST).write_text(json.dumps({**told, "sha256": hashlib.sha256(body).hexdigest()}, indent=1))
    return True
