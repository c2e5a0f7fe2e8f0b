"""The online store of many machines: a Redis server.

    thawrec:<lineage>/<dense>/<step>:head            since and now, and the tables that it holds ids of
    thawrec:<lineage>/<dense>/<step>:ids:<table>     hash: id -> row (int64) and vector (float32), little-endian
    thawrec:<lineage>/<dense>/<step>:rows:<table>    hash: row -> id

Keys expire `serving.store.keep` days after a server has last used them. A delta is one transaction, and so is a read:
Redis does nothing else meanwhile, so that while a very large delta is put in (a million rows) bundles may answer alone
for a moment. A server that came back empty is filled again from the log.

Legend: n ids, D table width.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import pyarrow as pa
import redis
import torch
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from torch import Tensor

from recsys.config_serving import Store as Options
from recsys.serving.secrets import read_secret
from recsys.serving.store import Entries, Head, StoreError, Tables
from recsys.tables.version import Version

_UNKNOWN = b"?"
_DAY = 24 * 60 * 60
_CHANGE = 60.0
"""Seconds that a delta may take, however large; nobody waits for it."""
_T = TypeVar("_T")


class RedisStore:
    """See `recsys.serving.store.Store`. Any number of machines may read and put.

    Raises:
        InputError: the password file cannot be read.
    """

    def __init__(self, options: Options, base: Version, types: Mapping[str, pa.DataType]) -> None:
        password = read_secret(options.password_file) if options.password_file else None
        self._redis, self._changing = (
            redis.Redis.from_url(
                options.url,
                password=password,
                socket_timeout=timeout,
                socket_connect_timeout=options.timeout,
                retry=Retry(NoBackoff(), 1),
            )
            for timeout in (options.timeout, _CHANGE)
        )
        self._prefix, self._types, self._keep = f"thawrec:{base.base}", types, options.keep * _DAY
        self._tables: frozenset[str] = frozenset()

    def head(self) -> Head | None:
        """See `Store.head`."""
        told = _asked(lambda: self._redis.get(self._key("head")))
        return None if told is None else self._parsed(told)[0]

    def begin(self, since: Version, instead: Head | None) -> None:
        """See `Store.begin`."""

        def change(pipe: Pipeline, held: frozenset[str]) -> frozenset[str]:
            for name in held:
                pipe.delete(self._key("ids", name), self._key("rows", name))
            return frozenset()

        self._change(instead, Head(since, since), change)

    def put(self, before: Head, now: Version, tables: Tables) -> bool:
        """See `Store.put`."""
        packed = {name: self._packed(entries) for name, entries in tables.items() if len(entries.ids)}

        def change(pipe: Pipeline, held: frozenset[str]) -> frozenset[str]:
            for name, (ids, rows) in packed.items():
                pipe.hset(self._key("ids", name), mapping=ids)
                if rows:
                    pipe.hset(self._key("rows", name), mapping=rows)
            return held | packed.keys()

        return self._change(before, Head(before.since, now), change)

    def _change(
        self, before: Head | None, now: Head, change: Callable[[Pipeline, frozenset[str]], frozenset[str]]
    ) -> bool:
        """One transaction, unless the head is not `before` any more; `change` gives the tables that it holds then."""

        def work() -> bool:
            with self._changing.pipeline(transaction=True) as pipe:
                pipe.watch(self._key("head"))
                told = pipe.get(self._key("head"))
                head, held = (None, frozenset[str]()) if told is None else self._parsed(told)
                if head != before:
                    return False
                pipe.multi()
                tables = change(pipe, held)
                pipe.set(self._key("head"), _head(now, tables))
                self._expire(pipe, tables)
                try:
                    pipe.execute()
                except redis.WatchError:
                    return False
                return True

        return _asked(work)

    def read(self, ids: Mapping[str, pa.Array]) -> tuple[Head, dict[str, Entries]]:
        """See `Store.read`."""
        while True:
            asked = self._tables
            names = [name for name in ids if name in asked and len(ids[name])]
            fields = {name: [_field(value) for value in ids[name].to_pylist()] for name in names}

            def work(fields: dict[str, list[bytes]] = fields) -> list[Any]:
                with self._redis.pipeline(transaction=True) as pipe:
                    pipe.get(self._key("head"))
                    for name, wanted in fields.items():
                        pipe.hmget(self._key("ids", name), wanted)
                    return pipe.execute()

            told, *found = _asked(work)
            if told is None:
                raise StoreError("redis: it has lost what it held")
            head, now = self._parsed(told)
            self._tables = now
            if now == asked:
                break
        values = {name: self._unpacked(name, ids[name], each) for name, each in zip(names, found, strict=True)}
        return head, {name: entries for name, entries in values.items() if entries}

    def owners(self, table: str, rows: Tensor) -> pa.Array:
        """See `Store.owners`."""
        fields = [str(row) for row in rows.tolist()]
        found: list[Any] = _asked(lambda: self._redis.hmget(self._key("rows", table), fields)) if fields else []
        kind = self._types[table]
        owners = [None if value is None else value[1:].decode() for value in found]
        return pa.array(owners, pa.string()).cast(kind)

    def renew(self) -> None:
        """See `Store.renew`."""

        def work() -> None:
            told = self._redis.get(self._key("head"))
            if told is not None:
                with self._redis.pipeline(transaction=True) as pipe:
                    self._expire(pipe, self._parsed(told)[1])
                    pipe.execute()

        _asked(work)

    def _expire(self, pipe: Pipeline, tables: frozenset[str]) -> None:
        """Let all keys live as long from here on; those that are not there are left out."""
        for key in ["head", *(f"{kind}:{name}" for name in tables for kind in ("ids", "rows"))]:
            pipe.expire(self._key(key), self._keep)

    def _key(self, *parts: str) -> str:
        return ":".join([self._prefix, *parts])

    def _parsed(self, told: bytes | str) -> tuple[Head, frozenset[str]]:
        """The head, and the tables that it names."""
        try:
            tree = json.loads(told)
            return Head(Version(**tree["since"]), Version(**tree["now"])), frozenset(tree["tables"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"redis: {self._key('head')}: not an online store's: {error!r}") from None

    def _packed(self, entries: Entries) -> tuple[dict[Any, bytes], dict[Any, bytes]]:
        """Both hashes of a table's entries."""
        fields = [_field(value) for value in entries.ids.to_pylist()]
        rows = entries.rows.tolist()
        whole = torch.cat([_bytes(entries.rows.unsqueeze(1)), _bytes(entries.vectors)], dim=1)
        data, width = bytes(whole.numpy()), whole.shape[1]
        ids = {field: data[k * width : (k + 1) * width] for k, field in enumerate(fields)}
        return ids, {str(row): field for row, field in zip(rows, fields, strict=True) if row > 0}

    def _unpacked(self, table: str, ids: pa.Array, values: list[bytes | None]) -> Entries | None:
        """Of ids [n] those that have a value.

        Raises:
            StoreError: values that no `put` has left.
        """
        held = [value for value in values if value is not None]
        if not held:
            return None
        width = len(held[0])
        if width < 12 or width % 4 or any(len(value) != width for value in held):
            raise StoreError(f"redis: {self._key('ids', table)}: expected a row and a vector")
        whole = torch.frombuffer(bytearray(b"".join(held)), dtype=torch.uint8).view(len(held), width)
        vectors = whole[:, 8:].flatten().view(torch.float32).view(len(held), -1)
        if not vectors.isfinite().all():
            raise StoreError(f"redis: {self._key('ids', table)}: expected finite numbers")
        mask = pa.array([value is not None for value in values])
        return Entries(ids.filter(mask), whole[:, :8].flatten().view(torch.int64), vectors)


def _head(head: Head, tables: frozenset[str]) -> str:
    return json.dumps({"since": asdict(head.since), "now": asdict(head.now), "tables": sorted(tables)})


def _field(value: str | int | None) -> bytes:
    return _UNKNOWN if value is None else f"={value}".encode()


def _bytes(tensor: Tensor) -> Tensor:
    """[n, k] as uint8 [n, k * its bytes]."""
    return tensor.contiguous().view(torch.uint8)


def _asked(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except redis.RedisError as error:
        raise StoreError(f"redis: {error}") from None
