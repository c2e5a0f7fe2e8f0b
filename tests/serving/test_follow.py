"""Deltas through both stores against the bundle that has taken them; stores that die and come back."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.config import Config
from recsys.config_serving import Store as Options
from recsys.serving.run import server_of
from recsys.tables import log, service
from recsys.tables.refresh import refresh
from tests.ranks import run_ranks
from tests.serving import served
from tests.serving.served import VERSION, Case, Client, cases, ids_of, plain, publish, serving

if TYPE_CHECKING:
    from tests.serving.conftest import Redis


@pytest.fixture(params=["file", "redis"])
def stored(request: pytest.FixtureRequest, made: Config) -> Config:
    """A run of its own, with either store."""
    if request.param == "file":
        return made
    return with_store(made, kind="redis", url=request.getfixturevalue("redis").url, timeout=5)


def with_store(made: Config, **options: object) -> Config:
    return replace(made, serving=replace(made.serving, store=Options(**options)))  # type: ignore[arg-type]


def row_of(made: Config, item: str, table: str = "item_id") -> int:
    return int(ids_of(made, table).rows(pa.array([item]))[0])


def asked(made: Config) -> list[Case]:
    """Requests that name items with and without rows and proxies, as targets and in histories."""
    return cases(made, [30, 4, 4], "new a", "new b", "item 02", "item 03", "item 27", "item 29", "no such item")


def require_same(client: Client, made: Config, number: int) -> list[list[float]]:
    """Served scores are those of the bundle that has taken the deltas up to this one."""
    client.until_delta(number)
    bundle, found = plain(made), []
    for case in asked(made):
        answer = client.score(case)
        assert (answer["version"], answer["store"]) == (replace(VERSION, delta=number).name, "up")
        np.testing.assert_allclose(answer["probabilities"], bundle.score(case.rows), atol=1e-6)
        found.append(answer["probabilities"])
    return found


def changes(made: Config) -> list[Callable[[], int]]:
    """Deltas of every kind: known rows, the unknown row, new owners, owners that go, come back, and follow others."""
    free = len(ids_of(made).ids) + 1
    two, three = row_of(made, "item 02"), row_of(made, "item 03")
    proxied = row_of(made, "item 29", "item_coarse")
    return [
        lambda: publish(made, "item_id", {two: "item 02", three: "item 03"}, 1),
        lambda: publish(made, "item_id", {0: None}, 2),
        lambda: publish(made, "item_id", {free: "new a", free + 2: "new b"}, 3),
        lambda: publish(made, "item_id", {three: "item 03", free: "new a"}, 4),
        lambda: publish(made, "item_id", {two: None, free: None}, 5, evict=True),
        lambda: publish(made, "item_id", {free + 3: "new a", two: "item 02"}, 6),
        lambda: publish(made, "item_fine", {proxied: "item 29"}, 7, "serving"),
        lambda: publish(made, "genres", {1: ids_of(made, "genres").ids[0].as_py()}, 8),
        lambda: publish(made, "item_id", {free + 3: None, two: None}, 9, evict=True),
        lambda: publish(made, "item_id", {two: "new a", free + 3: "item 02"}, 10),
    ]


def test_every_kind_of_delta_is_served_as_the_bundle_takes_it(stored: Config) -> None:
    with serving(stored) as client:
        before = require_same(client, stored, 0)
        for change in changes(stored):
            found = require_same(client, stored, change())
            assert found != before
            before = found
        assert client.metric('thawrec_deltas_total{what="applied"}') == 10
    # A server that starts from the bundle as it was exported lays all of them over it.
    old = replace(stored, serving=replace(stored.serving, bundle=None))
    with serving(old) as client:
        require_same(client, stored, 10)


def test_several_servers_share_a_store(stored: Config) -> None:
    with serving(stored) as one, serving(stored) as other:
        for change in changes(stored)[:5]:
            number = change()
            assert require_same(one, stored, number) == require_same(other, stored, number)
        applied = [client.metric('thawrec_deltas_total{what="applied"}') for client in (one, other)]
        assert sum(applied) == 5


def test_eight_bit_tables_are_rounded_as_the_bundle_rounds_them(home: Path, tmp_path: Path) -> None:
    made = served.copy(home, tmp_path)
    shutil.rmtree(made.run)
    run_ranks(1, served.write_run, made, True)
    with serving(made) as client:
        for change in changes(made)[:3]:
            require_same(client, made, change())


def test_deltas_that_are_put_into_a_bundle_elsewhere(made: Config, tmp_path: Path) -> None:
    run = Path(made.run)
    elsewhere = Path(shutil.copytree(run / "export", tmp_path / "elsewhere" / "bundle"))
    moved = replace(made, serving=replace(made.serving, bundle=str(elsewhere)))
    with serving(moved) as client:
        first, second, third = (change() for change in changes(made)[:3])
        refresh(elsewhere, log.pending(run, 0)[:first])
        client.until_delta(first)
        service.compact(run)
        refresh(elsewhere, log.pending(run, first))
        require_same(client, made, third)


def test_a_store_behind_the_bundle_begins_anew(stored: Config) -> None:
    with serving(stored):
        publish(stored, "item_id", {row_of(stored, "item 02"): "item 02"}, 1)
    publish(stored, "item_id", {row_of(stored, "item 03"): "item 03"}, 2)
    with serving(stored) as client:
        [case] = cases(stored, [3])
        answer = client.score(case)
        assert (answer["store"], answer["version"]) == ("down", replace(VERSION, delta=2).name)
        require_same(client, stored, 2)
        client.until(lambda: client.get("/ready").json()["store"] == "up")
        require_same(client, stored, publish(stored, "item_id", {row_of(stored, "item 02"): "item 02"}, 3))


def test_without_a_file_store_the_bundle_serves_alone_until_it_is_back(made: Config, tmp_path: Path) -> None:
    made = with_store(made, path=str(tmp_path / "online"))
    with serving(made) as client:
        bundle, [case] = plain(made), cases(made, [9], "item 02")
        require_same(client, made, publish(made, "item_id", {row_of(made, "item 02"): "item 02"}, 1))
        (tmp_path / "online").rename(tmp_path / "away")
        (tmp_path / "online").write_text("in the way")
        require_alone(client, bundle.score(case.rows), case)
        (tmp_path / "online").unlink()
        (tmp_path / "away").rename(tmp_path / "online")
        client.until(lambda: client.get("/ready").json()["store"] == "up")
        require_same(client, made, 1)


def test_without_redis_the_bundle_serves_alone_until_it_is_back(made: Config, redis: "Redis") -> None:
    made = with_store(made, kind="redis", url=redis.url)
    with serving(made) as client:
        bundle, [case] = plain(made), cases(made, [9], "item 02")
        require_same(client, made, publish(made, "item_id", {row_of(made, "item 02"): "item 02"}, 1))
        redis.kill()
        require_alone(client, bundle.score(case.rows), case)
        number = publish(made, "item_id", {row_of(made, "item 03"): "item 03"}, 2)
        redis.start()  # empty: it is filled again from the log
        client.until(lambda: client.get("/ready").json()["store"] == "up")
        require_same(client, made, number)


def require_alone(client: Client, expected: torch.Tensor, case: Case) -> None:
    answer = client.score(case)
    assert (answer["version"], answer["store"]) == (VERSION.name, "down")
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    assert client.metric("thawrec_store_up") == 0 and client.metric("thawrec_alone_total") >= 1
    assert client.get("/ready").json()["store"].startswith("down: ")


def test_a_server_starts_without_its_store(made: Config) -> None:
    with serving(with_store(made, kind="redis", url="redis://127.0.0.1:1/0")) as client:
        [case] = cases(made, [3])
        require_alone(client, plain(made).score(case.rows), case)


def test_requests_during_deltas_are_of_one_version_each(stored: Config) -> None:
    rows = {row_of(stored, f"item {k:02d}"): f"item {k:02d}" for k in range(20)}
    [case] = cases(stored, [20], *(f"item {k:02d}" for k in range(20)))
    expected = {VERSION.name: plain(stored).score(case.rows)}
    answers: list[dict] = []
    stop = threading.Event()

    def ask(client: Client) -> None:
        while not stop.is_set():
            answers.append(client.score(case))

    with serving(stored) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for seed in range(4):
            number = publish(stored, "item_id", rows, seed)
            expected[replace(VERSION, delta=number).name] = plain(stored).score(case.rows)
            client.until_delta(number)
        stop.set()
        for thread in threads:
            thread.join()
    assert len({answer["version"] for answer in answers}) >= 4
    for answer in answers:
        np.testing.assert_allclose(answer["probabilities"], expected[answer["version"]], atol=1e-6)


def test_a_compacted_log_is_followed(stored: Config) -> None:
    for change in changes(stored)[:6]:
        change()
    service.compact(Path(stored.run))
    shutil.rmtree(Path(stored.run) / "export")
    shutil.copytree(Path(stored.data.path).parent / "run" / "export", Path(stored.run) / "export")
    server = server_of(stored)
    assert server._scorer.serves == replace(VERSION, delta=6)
    rows = asked(stored)[0].rows
    fresh = refresh(Path(stored.run) / "export", log.pending(Path(stored.run), 0))
    assert fresh.delta == 6
    np.testing.assert_allclose(server._scorer.score(rows).probabilities, plain(stored).score(rows), atol=1e-6)
