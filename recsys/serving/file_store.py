"""The online store of one machine: files that its servers map into memory, so that all of them share one copy.

    <path>/<lineage>-<dense>-<step>/manifest.json          its head, and the files of each table, oldest first
    <path>/<lineage>-<dense>-<step>/item_id-00000400-00000007.arrow entries by id, as of delta 7
    <path>/<lineage>-<dense>-<step>/.used                  written when a server has used it

A file is never changed. A delta adds one; those before it that are not twice as large are merged into it, so that a
table has a few files whatever number of deltas, and a row is written again log(deltas) times. The manifest is replaced
last; who still reads the files before it keeps them mapped. An id's vectors are on disk, and in the page cache, twice
at most while a delta is put in.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys.config_serving import Store as Options
from recsys.errors import InputError
from recsys.files import discard, locked, remove, sweep
from recsys.serving.segment import Segment
from recsys.serving.store import Entries, Head, StoreError, Tables
from recsys.tables import manifest
from recsys.tables.lookup import searched
from recsys.tables.piece import arrow
from recsys.tables.version import Version

FORMAT = manifest.Format("thawrec-online", 1, "not an online store")
_LOCK, _USED = ".lock", ".used"
_DAY = 24 * 60 * 60
_TRIES = 5
"""Manifests read, each newer than the one before, until one's files are all still there."""


@dataclass(frozen=True)
class _View:
    """A manifest and its files, opened."""

    stamp: tuple[int, int]
    head: Head
    segments: dict[str, dict[str, Segment]]
    """By table, by file name, oldest first."""
    files: manifest.Files


class FileStore:
    """See `recsys.serving.store.Store`. Any number of processes may read and put."""

    def __init__(self, options: Options, beside: Path, base: Version, types: Mapping[str, pa.DataType]) -> None:
        self.folder = Path(options.path or beside / "online") / base.base.replace("/", "-")
        self._types, self._keep = types, options.keep * _DAY
        self._view: _View | None = None

    def head(self) -> Head | None:
        """See `Store.head`."""
        try:
            return self._current().head
        except FileNotFoundError:
            self._view = None
            return None

    def begin(self, since: Version, instead: Head | None) -> None:
        """See `Store.begin`."""
        with self._changing():
            if self.head() == instead:
                self._write(Head(since, since), {}, {})

    def put(self, before: Head, now: Version, tables: Tables) -> bool:
        """See `Store.put`. What a put needs in memory: the entries, and the files that they are merged with."""
        with self._changing():
            view = self._required()
            if view.head != before:
                return False
            files = dict(view.segments)
            for name, entries in tables.items():
                if len(entries.ids):
                    files[name] = self._with(name, files.get(name, {}), Segment.of(entries), now)
            self._write(Head(before.since, now), files, view.files)
            self._required()
            return True

    def read(self, ids: Mapping[str, pa.Array]) -> tuple[Head, dict[str, Entries]]:
        """See `Store.read`. What others have put since is opened by `head` and `put`: no request waits for it."""
        view = self._view or self._required()
        found = {name: _newest(view.segments[name], wanted) for name, wanted in ids.items() if name in view.segments}
        return view.head, {name: entries for name, entries in found.items() if entries}

    def owners(self, table: str, rows: Tensor) -> pa.Array:
        """See `Store.owners`."""
        ids = pa.nulls(len(rows), searched(self._types[table]))
        for segment in self._required().segments.get(table, {}).values():
            place = pc.index_in(arrow(rows), value_set=segment.table["row"].combine_chunks())
            ids = pc.coalesce(segment.table["id"].combine_chunks().take(place), ids)
        return ids.cast(self._types[table])

    def renew(self) -> None:
        """See `Store.renew`; whoever does it removes those of others that are left."""
        with self._changing():
            (self.folder / _USED).touch()
            sweep(self.folder.parent)
            for folder in self.folder.parent.glob("[!.]*"):
                if folder != self.folder and self._left(folder):
                    self._discard(folder)

    def _left(self, folder: Path) -> bool:
        """Whether it is a store that no server has used for long."""
        try:
            manifest.read(folder, FORMAT)
            used = max(path.stat().st_mtime for path in (folder / manifest.NAME, folder / _USED) if path.exists())
        except (InputError, OSError, ValueError):
            return False
        return time.time() - used > self._keep

    def _discard(self, folder: Path) -> None:
        """Remove another's store, unless a server is about to use it."""
        try:
            with locked(folder / _LOCK, wait=False):
                if self._left(folder):
                    discard(folder)
        except BlockingIOError:
            return

    def _with(self, table: str, old: dict[str, Segment], new: Segment, now: Version) -> dict[str, Segment]:
        """A table's files with one more, written."""
        kept = list(old.items())
        while kept and len(kept[-1][1]) < 2 * len(new):
            new = kept.pop()[1].under(new)
        name = f"{table}-{now.step:08d}-{now.delta:08d}.arrow"
        new.write(self.folder / name)
        return {**dict(kept), name: new}

    def _write(self, head: Head, segments: dict[str, dict[str, Segment]], known: manifest.Files) -> None:
        """Replace the manifest, and remove the files that it does not name."""
        names = {table: list(files) for table, files in segments.items()}
        named = [name for files in names.values() for name in files]
        stamps = {name: known.get(name) or manifest.stamp(self.folder / name) for name in named}
        manifest.write(self.folder, FORMAT, stamps, since=asdict(head.since), now=asdict(head.now), tables=names)
        for path in self.folder.glob("*.arrow"):
            if path.name not in stamps:
                remove(path)

    def _required(self) -> _View:
        try:
            return self._current()
        except FileNotFoundError:
            raise StoreError(f"{self.folder}: it is gone") from None

    def _current(self) -> _View:
        """The newest manifest with its files, those opened that are not yet.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it, or a file of it, is not as it must be.
        """
        path = self.folder / manifest.NAME
        for last in range(_TRIES):
            try:
                found = path.stat()
                stamp = found.st_ino, found.st_mtime_ns
                if self._view is None or self._view.stamp != stamp:
                    self._view = self._opened(stamp, manifest.read(self.folder, FORMAT))
                return self._view
            except FileNotFoundError:
                raise
            except (InputError, OSError, StoreError) as error:
                # Its files may have been merged since it was read.
                if last == _TRIES - 1:
                    raise StoreError(str(error)) from None
        raise AssertionError

    def _opened(self, stamp: tuple[int, int], told: dict[str, Any]) -> _View:
        try:
            head = Head(Version(**told["since"]), Version(**told["now"]))
            segments = {
                table: {
                    name: self._held(table, name, told["files"]) or self._open(name, told["files"]) for name in names
                }
                for table, names in told["tables"].items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{self.folder / manifest.NAME}: not an online store's: {error!r}") from None
        return _View(stamp, head, segments, told["files"])

    def _held(self, table: str, name: str, files: manifest.Files) -> Segment | None:
        """What is open already; a store that was lost and filled again has other rows under the same name."""
        view = self._view
        if view is None or view.files.get(name) != files[name]:
            return None
        return view.segments.get(table, {}).get(name)

    def _open(self, name: str, files: manifest.Files) -> Segment:
        manifest.check_bytes(self.folder, files, [name])
        return Segment.open(self.folder / name)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone; a folder that another server removes just then is made anew."""
        lock = self.folder / _LOCK
        try:
            while True:
                with locked(lock) as held:
                    if lock.exists() and os.path.samestat(os.fstat(held), lock.stat()):
                        yield
                        return
        except OSError as error:
            raise StoreError(f"{self.folder}: {error}") from None


def _newest(segments: dict[str, Segment], ids: pa.Array) -> Entries | None:
    """Of distinct ids those that a table's files hold, as the newest has them; None: they hold none."""
    left = ids.cast(searched(ids.type), safe=False)
    found = []
    for segment in reversed(segments.values()):
        at = segment.find(left)
        if at.null_count < len(at):
            found.append(segment.take(at.drop_null(), left.filter(at.is_valid())))
            left = left.filter(at.is_null())
    if not found:
        return None
    return Entries(
        pa.concat_arrays([entries.ids for entries in found]).cast(ids.type),
        torch.cat([entries.rows for entries in found]),
        torch.cat([entries.vectors for entries in found]),
    )
