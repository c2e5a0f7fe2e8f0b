"""Deltas through both stores against tables written over by hand; stores that die and come back."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from recsys.config import Config
from recsys.config_serving import Store as Options
from recsys.serving.run import server_of
from recsys.tables import log
from recsys.tables.bundle import Bundle
from recsys.tables.refresh import refresh
from tests.serving.served import VERSION, Case, Client, Run, cases, serving

if TYPE_CHECKING:
    from tests.serving.conftest import Redis


@pytest.fixture(params=["file", "redis"])
def stored(request: pytest.FixtureRequest, run: Run) -> Run:
    """A run of its own, with either store."""
    if request.param == "redis":
        run.made = with_store(run.made, kind="redis", url=request.getfixturevalue("redis").url, timeout=5)
    return run


def with_store(made: Config, **options: object) -> Config:
    return replace(made, serving=replace(made.serving, store=Options(**options)))  # type: ignore[arg-type]


def asked(made: Config) -> list[Case]:
    """Requests that name items with and without rows and proxies, as targets and in histories."""
    return cases(made, [30, 9], "new a", "new b", "item 02", "item 03", "item 27", "item 29", "no such item")


def require_same(client: Client, run: Run, number: int) -> list[list[float]]:
    """Served scores are those of the tables that have taken the deltas up to this one."""
    client.until_delta(number)
    found = []
    for case in asked(run.made):
        answer = client.score(case)
        assert (answer["version"], answer["store"]) == (replace(VERSION, delta=number).name, "up")
        np.testing.assert_allclose(answer["probabilities"], run.plain.score(case.rows), atol=1e-6)
        found.append(answer["probabilities"])
    return found


def changes(run: Run) -> list[Callable[[], int]]:
    """Deltas of every kind: known rows, the unknown row, new owners, owners that go, come back, and follow others."""
    free, two, three = run.free(), run.row("item 02"), run.row("item 03")
    genre = run.plain.ids["genres"].ids[0].as_py()
    return [
        lambda: run.append("item_id", {two: "item 02", three: "item 03"}, 1),
        lambda: run.append("item_id", {0: None}, 2),
        lambda: run.append("item_id", {free: "new a", free + 2: "new b"}, 3),
        lambda: run.append("item_id", {three: "item 03", free: "new a"}, 4),
        lambda: run.append("item_id", {two: None, free: None}, 5),
        lambda: run.append("item_id", {free + 3: "new a", two: "item 02"}, 6),
        lambda: run.append("item_fine", {run.row("item 29", "item_fine"): "item 29"}, 7, "serving"),
        lambda: run.append("genres", {run.row(genre, "genres"): genre}, 8),
        lambda: run.append("item_id", {free + 3: None, two: None}, 9),
        lambda: run.append("item_id", {two: "new a", free + 3: "item 02"}, 10),
        lambda: run.append("item_id", {two: "item 02", free + 3: "new a"}, 11),
        lambda: run.append("item_id", {two: "another"}, 12),
    ]


def test_every_kind_of_delta_is_served_as_plain_tables_score(stored: Run) -> None:
    every = changes(stored)
    with serving(stored.made) as client:
        before = require_same(client, stored, 0)
        for change in every:
            found = require_same(client, stored, change())
            assert found != before
            before = found
        assert client.metric('thawrec_deltas_total{what="applied"}') == len(every)
        assert client.metric("thawrec_delta") == len(every)
    # A server that comes later finds all of them in the store.
    with serving(stored.made) as client:
        require_same(client, stored, len(every))
        assert client.metric('thawrec_deltas_total{what="applied"}') == 0


def test_several_servers_share_a_store(stored: Run) -> None:
    with serving(stored.made) as one, serving(stored.made) as other:
        for change in changes(stored)[:5]:
            number = change()
            assert require_same(one, stored, number) == require_same(other, stored, number)
        applied = [client.metric('thawrec_deltas_total{what="applied"}') for client in (one, other)]
        assert sum(applied) == 5


def test_deltas_that_are_put_into_a_bundle_elsewhere(run: Run, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(run.folder / "export", tmp_path / "elsewhere" / "bundle"))
    run.made = replace(run.made, serving=replace(run.made.serving, bundle=str(elsewhere)))
    with serving(run.made) as client:
        first, *others = changes(run)[:6]
        first()
        refresh(elsewhere, log.pending(run.folder, 0))
        require_same(client, run, 1)
        for change in others:
            number = change()
        log.compact(run.folder)
        refresh(elsewhere, log.pending(run.folder, 1))
        require_same(client, run, number)


def test_a_compacted_log_is_followed(stored: Run) -> None:
    for change in changes(stored)[:6]:
        change()
    log.compact(stored.folder)
    with serving(stored.made) as client:
        require_same(client, stored, 6)


def test_a_store_behind_the_bundle_begins_anew(stored: Run) -> None:
    first, second, third, *_ = changes(stored)
    with serving(stored.made) as client:
        require_same(client, stored, first())
    second()
    refresh(stored.folder / "export", log.pending(stored.folder, 0))
    with serving(stored.made) as client:
        answer = client.score(asked(stored.made)[0])
        assert (answer["store"], answer["version"]) == ("down", replace(VERSION, delta=2).name)
        client.until(lambda: client.get("/ready").json()["store"] == "up")
        require_same(client, stored, 2)
        require_same(client, stored, third())


def test_without_a_file_store_the_bundle_serves_alone_until_it_is_back(
    run: Run, exported: Bundle, tmp_path: Path
) -> None:
    online = tmp_path / "online"
    run.made = with_store(run.made, path=str(online))
    with serving(run.made) as client:
        require_same(client, run, changes(run)[0]())
        online.rename(tmp_path / "away")
        online.write_text("in the way")
        client.until(lambda: client.get("/ready").json()["store"] != "up")
        require_alone(client, exported, asked(run.made)[0])
        online.unlink()
        (tmp_path / "away").rename(online)
        client.until(lambda: client.get("/ready").json()["store"] == "up")
        require_same(client, run, 1)


def test_without_redis_the_bundle_serves_alone_until_it_is_back(run: Run, exported: Bundle, redis: "Redis") -> None:
    run.made = with_store(run.made, kind="redis", url=redis.url)
    first, second, *_ = changes(run)
    with serving(run.made) as client:
        require_same(client, run, first())
        redis.kill()
        require_alone(client, exported, asked(run.made)[0])
        number = second()
        redis.start()  # empty: it is filled again from the log
        client.until(lambda: client.get("/ready").json()["store"] == "up")
        require_same(client, run, number)


def require_alone(client: Client, exported: Bundle, case: Case) -> None:
    answer = client.score(case)
    assert (answer["version"], answer["store"]) == (VERSION.name, "down")
    np.testing.assert_allclose(answer["probabilities"], exported.score(case.rows), atol=1e-6)
    assert client.metric("thawrec_store_up") == 0 and client.metric("thawrec_alone_total") >= 1
    assert client.get("/ready").json()["store"].startswith("down: ")


def test_a_server_starts_without_its_store(run: Run, exported: Bundle) -> None:
    with serving(with_store(run.made, kind="redis", url="redis://127.0.0.1:1/0")) as client:
        require_alone(client, exported, asked(run.made)[0])


def test_requests_during_deltas_are_of_one_version_each(stored: Run) -> None:
    names = [f"item {k:02d}" for k in range(20)]
    [case] = cases(stored.made, [20], *names)
    expected = {VERSION.name: stored.plain.score(case.rows)}
    answers: list[dict] = []
    stop = threading.Event()

    def ask(client: Client) -> None:
        while not stop.is_set():
            answers.append(client.score(case))

    with serving(stored.made) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for seed in range(8):
            number = stored.append("item_id", {stored.row(name): name for name in names}, seed)
            expected[replace(VERSION, delta=number).name] = stored.plain.score(case.rows)
            client.until_delta(number)
        stop.set()
        for thread in threads:
            thread.join()
    assert len({answer["version"] for answer in answers}) > 3
    for answer in answers:
        np.testing.assert_allclose(answer["probabilities"], expected[answer["version"]], atol=1e-6)


def test_what_is_in_the_log_is_served_from_the_start(run: Run) -> None:
    for change in changes(run)[:3]:
        change()
    assert server_of(run.made)._scorer.serves == replace(VERSION, delta=3)
