"""Tables between markers of a Markdown file, sealed so that a number typed by hand shows.

    <!-- demo -->
    ...
    <!-- /demo 3f2a9c0b11de -->

The closing marker holds the start of the SHA-256 of the text between the two.
"""

import hashlib
import re
from pathlib import Path

from recsys.errors import InputError
from recsys.files import replacing

_BLOCK = r"<!-- {name} -->\n(?P<body>.*?)<!-- /{name}(?: (?P<seal>[0-9a-f]+))? -->"
_OPENING = re.compile(r"^<!-- ([a-z0-9-]+) -->$", re.M)


def put(path: Path, name: str, body: str) -> None:
    """Replace what stands between the markers of `name`.

    Raises:
        InputError: the file has no such markers.
    """
    text, body = path.read_text(), body.strip() + "\n"
    block = f"<!-- {name} -->\n{body}<!-- /{name} {seal(body)} -->"
    text, found = re.subn(_BLOCK.format(name=re.escape(name)), lambda _: block, text, flags=re.S)
    if found != 1:
        raise InputError(f"{path}: expected one pair of markers <!-- {name} --> and <!-- /{name} -->, found {found}")
    with replacing(path) as temporary:
        temporary.write_text(text)


def names(path: Path) -> list[str]:
    """The markers of a file, in order."""
    return _OPENING.findall(path.read_text())


def require(path: Path, name: str) -> None:
    """Refuse a file that has no place for a table, before hours are spent on it.

    Raises:
        InputError: no such file, or its marker is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file to write the table of {name} into")
    if name not in names(path):
        raise InputError(f"{path}: no marker <!-- {name} --> for its table")


def broken(path: Path) -> list[str]:
    """The blocks whose text is not what was written: touched by hand, or never filled."""
    text = path.read_text()
    found = []
    for name in names(path):
        match = re.search(_BLOCK.format(name=re.escape(name)), text, re.S)
        if not match or match["seal"] != seal(match["body"]):
            found.append(name)
    return found


def seal(body: str) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a block's text."""
    return hashlib.sha256(body.encode()).hexdigest()[:12]
