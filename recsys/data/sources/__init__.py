"""Where raw logs come from: `load` reads the one that a config names into a `Log`."""

from recsys.config import Data
from recsys.data.log import Log
from recsys.data.sources import content, files, kuairand, movielens


def load(data: Data) -> Log:
    """The raw log of `data.source`, with its item content joined if `data.source.content` names any.

    Raises:
        InputError: a missing, corrupt or unexpected file, naming it and what was expected.
    """
    source = data.source
    if source.kind.startswith("movielens"):
        log = movielens.load(source)
    elif source.kind == "kuairand-pure":
        log = kuairand.load(source)
    else:
        log = files.load(source)
    return content.join(log, source.content) if source.content else log


def fingerprint(data: Data) -> list[str]:
    """What identifies the source's bytes without reading them: a digest, or each file's name, size and time."""
    source = data.source
    if source.kind.startswith("movielens") and not source.path:
        found = [movielens.WHEEL_SHA256]
    elif source.kind == "files":
        found = files.fingerprint(source)
    else:
        found = files.stamps(source.path)
    return found + (files.stamps(source.content) if source.content else [])
