"""Both online stores against a dictionary; and their files and keys in trouble."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.config_serving import Store as Options
from recsys.errors import InputError
from recsys.files import discard, locked
from recsys.serving.store import GONE, Entries, Head, Store, StoreError
from recsys.serving.stores import open_store
from recsys.tables import manifest
from recsys.tables.version import Version

if TYPE_CHECKING:
    from tests.serving.conftest import Redis

BASE = Version("lineage", "dense", 7, 2)
TYPES = {"text": pa.string(), "number": pa.int64()}
DIM = 3
Opened = Callable[[], Store]


@pytest.fixture(params=["file", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the store anew, as another process would."""
    options = Options(kind="file")
    if request.param == "redis":
        options = Options(kind="redis", url=request.getfixturevalue("redis").url, timeout=5)
    return lambda: open_store(options, tmp_path, BASE, TYPES)


def begun(store: Store) -> Head:
    store.begin(BASE, None)
    head = store.head()
    assert head == Head(BASE, BASE)
    return head


def entries(table: str, rows: dict[object, tuple[int, list[float]]]) -> Entries:
    ids = pa.array(list(rows), TYPES[table])
    vectors = torch.tensor([vector for _, vector in rows.values()]).view(len(rows), DIM)
    return Entries(ids, torch.tensor([row for row, _ in rows.values()], dtype=torch.int64), vectors)


def plainly(found: Entries | None) -> dict[object, tuple[int, list[float]]]:
    if found is None:
        return {}
    return dict(zip(found.ids.to_pylist(), zip(found.rows.tolist(), found.vectors.tolist(), strict=True), strict=True))


def draws(seed: int) -> Iterator[dict[str, dict[object, tuple[int, list[float]]]]]:
    """What one delta after another makes of some ids: many small ones, and now and then a large one."""
    draw = np.random.default_rng(seed)
    free = count(1)
    for size in [40, 3, 1, 200, 5, 5, 5, 90, 2, 2, 300, 1]:
        made: dict[str, dict[object, tuple[int, list[float]]]] = {}
        for table in TYPES:
            ids: list[object] = (
                [None, *range(400)] if table == "number" else [None, "", *(f"id {k}" for k in range(400))]
            )
            named = [ids[k] for k in draw.choice(len(ids), size, replace=False)]
            rows = [0 if each is None else next(free) if draw.random() < 0.9 else GONE for each in named]
            made[table] = {
                each: (row, draw.normal(size=DIM).astype(np.float32).tolist())
                for each, row in zip(named, rows, strict=True)
            }
        yield made


def test_the_last_word_on_each_id_is_found(opened: Opened) -> None:
    store, other = opened(), opened()
    head, held = begun(store), {table: dict[object, tuple[int, list[float]]]() for table in TYPES}
    for k, made in enumerate(draws(0)):
        now = replace(BASE, delta=head.now.delta + 1)
        # Whichever server sees a delta first puts it in; the others read it.
        assert [store, other][k % 2].put(head, now, {name: entries(name, rows) for name, rows in made.items()})
        assert not store.put(head, now, {"text": entries("text", {"id 1": (5, [9.0, 9.0, 9.0])})})
        head = Head(BASE, now)
        for name, rows in made.items():
            held[name] |= rows
        for reader in (store, other, opened()):
            text = [None, "", "nothing", *(f"id {k}" for k in range(400))]
            number = [None, -1, *range(400)]
            assert reader.head() == head
            at, found = reader.read({"text": pa.array(text), "number": pa.array(number, pa.int64())})
            assert at == head
            assert {name: plainly(found.get(name)) for name in held} == held
        at, found = store.read({"text": pa.array(["id 5", "nothing"])})
        assert plainly(found.get("text")) == {name: each for name, each in held["text"].items() if name == "id 5"}
        rows_of = {row: owner for owner, (row, _) in held["text"].items() if row > 0}
        owners = store.owners("text", torch.tensor([*rows_of, 10**7]))
        assert owners.type == pa.string() and owners.to_pylist() == [*rows_of.values(), None]


def test_it_begins_once_and_anew_only_instead_of_what_it_was(opened: Opened) -> None:
    store = opened()
    assert store.head() is None
    head = begun(store)
    now = replace(BASE, delta=3)
    assert store.put(head, now, {"text": entries("text", {"a": (1, [1.0, 2.0, 3.0])})})
    store.begin(replace(BASE, delta=9), None)
    store.begin(replace(BASE, delta=9), head)
    assert store.head() == Head(BASE, now)
    later = replace(BASE, delta=9)
    store.begin(later, Head(BASE, now))
    assert store.head() == Head(later, later)
    assert store.read({"text": pa.array(["a"])}) == (Head(later, later), {})


def test_runs_and_steps_do_not_mix(opened: Opened, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    begun(opened())
    other = opened()
    options = Options(kind="file")
    if "redis" in request.node.name:
        options = Options(kind="redis", url=request.getfixturevalue("redis").url)
    other = open_store(options, tmp_path, replace(BASE, step=8), TYPES)
    assert other.head() is None


@pytest.mark.parametrize(
    ("bundle", "fits"),
    [
        (Version("l", "d", 7, 2), True),
        (Version("l", "d", 7, 4), True),
        (Version("l", "d", 7, 1), False),
        (Version("l", "d", 7, 5), False),
        (Version("l", "d", 8, 3), False),
        (Version("l", "other", 7, 3), False),
    ],
)
def test_a_bundle_from_since_to_now_fits(bundle: Version, fits: bool) -> None:
    assert Head(Version("l", "d", 7, 2), Version("l", "d", 7, 4)).fits(bundle) == fits


def put_some(store: Store, n: int = 3) -> None:
    head = begun(store)
    for k in range(n):
        now = replace(BASE, delta=head.now.delta + 1)
        rows: dict[object, tuple[int, list[float]]] = {
            f"id {j}": (j + 1, [float(k)] * DIM) for j in range(100 >> (2 * k))
        }
        assert store.put(head, now, {"text": entries("text", rows)})
        head = Head(BASE, now)


def test_files_that_no_server_has_used_for_days_are_removed(tmp_path: Path) -> None:
    old, young, used, own = (replace(BASE, step=step) for step in range(4))
    stores = {base: open_store(Options(keep=2), tmp_path, base, TYPES) for base in (old, young, used, own)}
    for base, store in stores.items():
        store.begin(base, None)
        store.renew()
    online = tmp_path / "online"
    (online / "of another kind").mkdir()
    (online / "of another kind" / "manifest.json").write_text("{}")

    def age(name: str, days: float) -> None:
        for path in ((online / name), *(online / name).iterdir()):
            os.utime(path, (time.time() - days * 86400,) * 2)

    names = {base: base.base.replace("/", "-") for base in stores}
    for name in (names[old], names[used], names[own], "of another kind"):
        age(name, 2.1)
    age(names[young], 1.9)
    stores[used].renew()  # and removes the others: whoever comes first does
    assert {path.name for path in online.iterdir()} == {names[young], names[used], "of another kind"}
    stores[own].renew()
    assert stores[own].head() is None
    stores[own].begin(own, None)
    assert stores[own].head() == Head(own, own), "who comes back begins anew"


def test_who_waits_for_a_store_that_is_removed_begins_it_anew(tmp_path: Path) -> None:
    store = open_store(Options(), tmp_path, BASE, TYPES)
    store.begin(BASE, None)
    [folder] = (tmp_path / "online").iterdir()
    with locked(folder / ".lock"):
        waiting = threading.Thread(target=store.begin, args=(BASE, None))
        waiting.start()
        until(lambda: len(opened_files(folder)) == 2)
        discard(folder)
    waiting.join()
    assert store.head() == Head(BASE, BASE)


def opened_files(folder: Path) -> list[str]:
    """The files of a folder that this process has open."""
    return [path for one in Path("/proc/self/fd").iterdir() if (path := str(one.resolve())).startswith(str(folder))]


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_redis_keys_live_as_long_as_a_server_uses_them(redis: "Redis", tmp_path: Path) -> None:
    from redis import Redis as Connection

    store = open_store(Options(kind="redis", url=redis.url, keep=2), tmp_path, BASE, TYPES)
    connection = Connection.from_url(redis.url)
    put_some(store)
    keys = {f"thawrec:{BASE.base}:{name}".encode() for name in ("head", "ids:text", "rows:text")}
    days = 2 * 86400
    assert {key: connection.ttl(key) for key in connection.scan_iter()} == dict.fromkeys(
        keys, pytest.approx(days, abs=60)
    )
    for key in keys:
        connection.expire(key, 1000)
    store.renew()
    assert {key: connection.ttl(key) for key in connection.scan_iter()} == dict.fromkeys(
        keys, pytest.approx(days, abs=60)
    )


def test_a_damaged_file_is_an_error_and_mended_it_is_none(tmp_path: Path) -> None:
    store = open_store(Options(), tmp_path, BASE, TYPES)
    put_some(store)
    [folder] = (tmp_path / "online").iterdir()
    assert len(list(folder.glob("*.arrow"))) == 3, "those not twice as large are merged"
    for path in sorted(folder.glob("[!.]*")):
        whole = path.read_bytes()
        for damaged in (b"", whole[:-9], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            fresh = open_store(Options(), tmp_path, BASE, TYPES)
            with pytest.raises(StoreError, match=str(folder)):
                fresh.read({"text": pa.array(["id 1"])})
        path.write_bytes(whole)
        assert plainly(fresh.read({"text": pa.array(["id 1"])})[1]["text"]) == {"id 1": (2, [2.0] * DIM)}


def test_who_read_before_a_merge_reads_on(tmp_path: Path) -> None:
    store, other = (open_store(Options(), tmp_path, BASE, TYPES) for _ in range(2))
    put_some(store, 1)
    head, before = other.read({"text": pa.array(["id 7"])})
    rows: dict[object, tuple[int, list[float]]] = {f"id {j}": (j + 1, [5.0] * DIM) for j in range(90)}
    assert store.put(head, replace(BASE, delta=9), {"text": entries("text", rows)})
    assert plainly(before["text"]) == {"id 7": (8, [0.0] * DIM)}
    other.head()
    assert plainly(other.read({"text": pa.array(["id 7"])})[1]["text"]) == {"id 7": (8, [5.0] * DIM)}


def test_a_read_opens_no_file_that_another_has_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a request would wait for this")

    store, other = (open_store(Options(), tmp_path, BASE, TYPES) for _ in range(2))
    put_some(store, 1)
    head, asked = other.head(), {"text": pa.array(["id 7"])}
    assert head
    now = replace(BASE, delta=9)
    assert store.put(head, now, {"text": entries("text", {"id 7": (8, [5.0] * DIM)})})
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "check_bytes", refuse)
        for reader, at, value in ((other, head, 0.0), (store, Head(BASE, now), 5.0)):
            found = reader.read(asked)
            assert (found[0], plainly(found[1]["text"])) == (at, {"id 7": (8, [value] * DIM)})
    assert other.head() == Head(BASE, now) == other.read(asked)[0]


def test_who_read_before_a_store_was_lost_and_filled_again_reads_what_it_holds_now(tmp_path: Path) -> None:
    reader = open_store(Options(), tmp_path, BASE, TYPES)
    for value in (1.0, 2.0):
        shutil.rmtree(tmp_path / "online", ignore_errors=True)
        store = open_store(Options(), tmp_path, BASE, TYPES)
        rows: dict[object, tuple[int, list[float]]] = {"id 1": (2, [value] * DIM)}
        assert store.put(begun(store), replace(BASE, delta=1), {"text": entries("text", rows)})
        assert reader.head() == Head(BASE, replace(BASE, delta=1))
        assert plainly(reader.read({"text": pa.array(["id 1"])})[1]["text"]) == rows


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "online").write_text("a file")
    store = open_store(Options(), tmp_path, BASE, TYPES)
    with pytest.raises(StoreError):
        store.head()
    with pytest.raises(StoreError):
        store.begin(BASE, None)


def test_what_redis_should_not_hold_is_an_error(redis: "Redis", tmp_path: Path) -> None:
    from redis import Redis as Connection

    store = open_store(Options(kind="redis", url=redis.url), tmp_path, BASE, TYPES)
    put_some(store)
    connection = Connection.from_url(redis.url)
    key = f"thawrec:{BASE.base}"
    whole = connection.hget(f"{key}:ids:text", "=id 1")
    for value in (b"", b"x" * 9, b"x" * 21, b"\xff" * 20):
        connection.hset(f"{key}:ids:text", "=id 1", value)
        with pytest.raises(StoreError, match="expected"):
            store.read({"text": pa.array(["id 1", "id 2"])})
    connection.hset(f"{key}:ids:text", "=id 1", whole)
    for told in ("", "{}", "[1]", json.dumps({"since": {}, "now": {}, "tables": 5})):
        connection.set(f"{key}:head", told)
        for ask in (store.head, lambda: store.read({"text": pa.array(["id 1"])})):
            with pytest.raises(StoreError, match="not an online store"):
                ask()


def test_redis_that_is_gone_is_an_error_and_comes_back_empty(redis: "Redis", tmp_path: Path) -> None:
    store = open_store(Options(kind="redis", url=redis.url), tmp_path, BASE, TYPES)
    put_some(store)
    redis.kill()
    for ask in (store.head, lambda: store.read({"text": pa.array(["id 1"])}), lambda: store.begin(BASE, None)):
        with pytest.raises(StoreError):
            ask()
    redis.start()
    assert store.head() is None
    with pytest.raises(StoreError, match="lost"):
        store.read({"text": pa.array(["id 1"])})


def test_a_password_comes_from_a_file(redis: "Redis", tmp_path: Path) -> None:
    from redis import Redis as Connection

    Connection.from_url(redis.url).config_set("requirepass", "s3cret")
    with pytest.raises(StoreError, match="authenticated"):
        open_store(Options(kind="redis", url=redis.url), tmp_path, BASE, TYPES).head()
    (tmp_path / "password").write_text("s3cret\n")
    options = Options(kind="redis", url=redis.url, password_file=str(tmp_path / "password"))
    assert open_store(options, tmp_path, BASE, TYPES).head() is None
    with pytest.raises(InputError, match="none: cannot be read"):
        open_store(replace(options, password_file=str(tmp_path / "none")), tmp_path, BASE, TYPES)
    shutil.rmtree(tmp_path)
