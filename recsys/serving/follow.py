"""Deltas into the store as they come, by a thread of each server: whichever sees one first puts it in.

A delta that the bundle's tables cannot take is refused: it is logged and counted, nothing after it is taken, and what
was served goes on. It is looked at again, since its log may be mended. The same thread finds a store that is down well
again, and fills one that came back empty. Whatever fails is said once, and tried again less and less often.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

from recsys.errors import InputError
from recsys.serving.backoff import LONGEST, Backoff
from recsys.serving.entries import entries_of
from recsys.serving.metrics import Metrics
from recsys.serving.newer import Newer
from recsys.serving.scorer import Scorer
from recsys.serving.store import Head, StoreError
from recsys.tables import delta, log, manifest, overlay
from recsys.tables.bundle import EXPORT
from recsys.tables.delta import Delta
from recsys.tables.order import MAX_STALENESS, accepts, after, beyond
from recsys.tables.version import Version

_LOG = logging.getLogger(__name__)
_RENEW = 3600.0
"""Seconds between two words to the store that it is in use."""


class Feed(Protocol):
    """Where deltas come from."""

    def after(self, version: Version) -> Iterator[Delta]:
        """Those that tables of this version lack, in order, each checked whole; it may give some that they have.

        Raises:
            InputError: one that is damaged or missing.
        """
        ...


class RunLog:
    """The log of a run (`recsys.tables.log`)."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def after(self, version: Version) -> Iterator[Delta]:
        """See `Feed.after`."""
        return log.following(self.run, version.delta)


class BundleDeltas:
    """The deltas that are put into the bundle itself (`tools.delta --to`)."""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle

    def after(self, version: Version) -> Iterator[Delta]:
        """See `Feed.after`."""
        told = manifest.read(self.bundle, EXPORT)
        if Version(**told["origin"]) != version:
            for each in overlay.held(self.bundle, told):
                yield delta.read(each.delta.folder)


class Follower:
    """Brings a scorer's store up to a feed: once by `step`, or again and again in a thread."""

    def __init__(
        self,
        scorer: Scorer,
        feed: Feed,
        metrics: Metrics,
        poll: float,
        stale: int = MAX_STALENESS,
        patience: float = 2.0,
    ) -> None:
        """`patience`: seconds in which another server may bring up a store that is behind the bundle."""
        self._scorer, self._feed, self._metrics = scorer, feed, metrics
        self._poll, self._stale, self._patience = poll, stale, patience
        self._newer, self._backoff = Newer(scorer.bundle, metrics), Backoff(poll)
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="follower", daemon=True)
        self._well = False
        self._due = 0.0
        self._behind: float | None = None
        self._heard: str | None = None
        self._refused: str | None = None

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Look for deltas every `poll` seconds from here on."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being put in, and look for no more."""
        self._stopped.set()
        self._thread.join()

    def step(self) -> None:
        """Put in what has come, or say why not."""
        fell, self._well = self._well and self._scorer.down is not None, False
        try:
            well = self._look(fell)
            self._newer.look()
            self._well = well
        except Exception as error:  # whatever it was, what is served goes on
            self._failed("deltas", error)
        self._metrics.following.set(self._well)
        self._metrics.store_up.set(self._scorer.down is None)

    def _run(self) -> None:
        while not self._stopped.wait(self._poll if self._well else self._backoff.wait):
            self.step()

    def _look(self, fell: bool) -> bool:
        """Bring the store up to the feed; False where that failed. `fell`: a request has found it down since."""
        try:
            if fell:
                raise StoreError(self._scorer.down)  # it may seem well, and fail the next request
            head = self._head()
            self._serve(head)
        except StoreError as error:
            self._scorer.fail(str(error))
            self._failed("the store", error)
            return False
        try:
            self._fill(head)
            self._renew()
        except StoreError as error:  # what it holds can still be read
            self._failed("writing to the store", error)
            return False
        except InputError as error:
            self._refuse(str(error))
            return False
        self._heard = self._refused = None
        return True

    def _renew(self) -> None:
        if time.monotonic() >= self._due:
            self._scorer.store.renew()
            self._due = time.monotonic() + _RENEW

    def _failed(self, what: str, error: Exception) -> None:
        if self._backoff.failed(what):
            said = "%s: tried again less and less often, every %g s in the end: %s"
            _LOG.warning(said, what, LONGEST, error, exc_info=not isinstance(error, StoreError))

    def _fill(self, head: Head) -> None:
        bundle, store = self._scorer.bundle, self._scorer.store
        for each in self._feed.after(head.now):
            if not accepts(head.now, each, "what is served", each.forced, self._stale):
                continue
            entries = entries_of(each, beyond(head.now, each), bundle, store)
            now = after(head.now, each)
            if not store.put(head, now, entries):
                return  # another server was first; the next look goes on from there
            head = Head(head.since, now)
            self._metrics.deltas.labels("applied").inc()
            _LOG.info("%s: %d rows are served from here on", each.folder, each.rows)
            self._serve(head)

    def _serve(self, head: Head) -> None:
        self._scorer.recover(head)
        self._metrics.delta.set(head.now.delta)

    def _head(self) -> Head:
        """The store's head; one that holds nothing begins at the bundle, as does one that stays behind it.

        Only who knows the tables as they were can tell whose row a delta takes away: a bundle that is ahead cannot.

        Raises:
            StoreError: it is behind, and has not been for long.
        """
        store, version = self._scorer.store, self._scorer.version
        head = store.head()
        behind = head is not None and (head.now.step, head.now.delta) < (version.step, version.delta)
        if not behind:
            self._behind = None
        elif self._behind is None:
            self._behind = time.monotonic()
        if self._behind is not None and time.monotonic() - self._behind < self._patience:
            raise StoreError(f"it is at delta {head.now.delta if head else 0}, behind the bundle's {version.delta}")
        if head is None or behind:
            store.begin(version, head)
            head = store.head()
        if head is None:
            raise StoreError("it does not keep what it is told")
        return head

    def _refuse(self, reason: str) -> None:
        """Count a delta that is refused twice in the same words: at first its folder may just have been compacted."""
        self._backoff.failed(reason)
        if reason == self._heard and reason != self._refused:
            self._refused = reason
            self._metrics.deltas.labels("refused").inc()
            _LOG.warning("a delta is refused, and what was served goes on: %s", reason)
        self._heard = reason
