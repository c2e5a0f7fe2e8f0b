"""How long to wait before what has failed is tried again."""

import time

LONGEST = 5.0
"""Most seconds between two tries."""
_FORGOTTEN = 6 * LONGEST
"""Seconds without a failure after which the next one is the first again."""


class Backoff:
    """Twice as long after every failure; from `first` seconds again for another one, or when all was well for long."""

    def __init__(self, first: float) -> None:
        self._first, self._what, self._at = first, "", 0.0
        self.wait = first

    def failed(self, what: str) -> bool:
        """Wait longer; whether this is the first failure of its kind, to be told."""
        now = time.monotonic()
        new = what != self._what or now - self._at > _FORGOTTEN
        self.wait = min(2 * (self._first if new else self.wait), max(self._first, LONGEST))
        self._what, self._at = what, now
        return new
