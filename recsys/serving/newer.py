"""Whether another export has taken the place of the bundle that is served: a server has to be started for it."""

import logging
from pathlib import Path
from typing import Any

from recsys.errors import InputError
from recsys.serving.metrics import Metrics
from recsys.tables import manifest
from recsys.tables.bundle import EXPORT, Bundle

_LOG = logging.getLogger(__name__)


class Newer:
    """Looks at the folder of a bundle; deltas that are put into the bundle there make no other export."""

    def __init__(self, bundle: Bundle, metrics: Metrics) -> None:
        self._folder, self._metrics = bundle.folder, metrics
        self._lies = self._served = _made(bundle.told)
        self._stamp: tuple[int, int] | None = None

    def look(self) -> None:
        """Say it once for each export, and count it as long as it lies there."""
        try:
            stamp = _stamp(self._folder)
            if stamp == self._stamp:
                return
            made = _made(manifest.read(self._folder, EXPORT))
        except (InputError, OSError, KeyError, TypeError):
            return  # it is being written
        if made not in (self._served, self._lies):
            _LOG.warning("%s: an export of step %d lies there now: restart to serve it", self._folder, made[2])
        self._lies, self._stamp = made, stamp
        self._metrics.restart.set(made != self._served)


def _made(told: dict[str, Any]) -> tuple[str, str, int]:
    """The lineage, training run and step that an export was made of."""
    return told["origin"]["lineage"], told["origin"]["dense"], told["source"]["step"]


def _stamp(folder: Path) -> tuple[int, int]:
    found = (folder / manifest.NAME).stat()
    return found.st_ino, found.st_mtime_ns
