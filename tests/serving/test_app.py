"""A served bundle over HTTP: its scores, what it refuses, and what it tells."""

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.config import Config
from recsys.errors import InputError
from recsys.serving.batching import Batcher
from recsys.serving.requests import Asked
from recsys.serving.run import listen, server_of
from recsys.tables import delta, log
from recsys.tables.bundle import Bundle
from recsys.tables.piece import Piece
from recsys.tables.version import Version
from tests.serving import served
from tests.serving.served import VERSION, Client, Rows, Run, cases, serving


def with_options(made: Config, **changes: Any) -> Config:
    return replace(made, serving=replace(made.serving, **changes))


def test_requests_score_as_the_bundle_does_alone_and_together(made: Config, exported: Bundle) -> None:
    asked = cases(made, [1, 3, 20, 7, 1, 12], "item 29", "no such item")
    with serving(with_options(made, window=0.2, max_rows=30)) as client:
        alone = [client.score(case) for case in asked]
        together: dict[int, Any] = {}
        threads = [
            threading.Thread(target=lambda k=k: together.update({k: client.score(asked[k])})) for k in range(len(asked))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sizes = client.metric("thawrec_batch_rows_count")
    assert sizes < 2 * len(asked), "some were scored together"
    for k, case in enumerate(asked):
        for answer in (alone[k], together[k]):
            np.testing.assert_allclose(answer["probabilities"], exported.score(case.rows), atol=1e-6)
            assert (answer["version"], answer["store"]) == (VERSION.name, "up") and "logits" not in answer
    assert np.std([x for answer in alone for x in answer["probabilities"]]) > 0.05


def test_logits_bare_items_and_missing_columns(made: Config, exported: Bundle) -> None:
    [case] = cases(made, [3])
    with serving(made) as client:
        found = client.post({**case.body, "logits": True}).json()
        p = np.array(found["probabilities"])
        np.testing.assert_allclose(found["logits"], np.log(p / (1 - p)), atol=1e-5)
        bare = client.post({"user": {}, "items": ["item 03", {"item_id": "item 04"}]}).json()
    rows = case.rows.slice(0, 2)
    for name in rows.column_names:
        values = ["item 03", "item 04"] if name == "item_id" else [None, None]
        kind = rows.schema.field(name).type
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, kind))
    np.testing.assert_allclose(bare["probabilities"], exported.score(rows), atol=1e-6)


def test_of_a_long_history_the_newest_are_read(made: Config) -> None:
    [case] = cases(made, [1])
    ids = [f"item {k:02d}" for k in range(12)]
    with serving(made) as client:

        def scored(items: list[str]) -> float:
            labels = [int(item[-1]) % 2 for item in items]
            user = {**case.body["user"], "history": items, "history_label": labels}
            return client.post({**case.body, "user": user}).json()["probabilities"][0]

        assert scored(ids) == pytest.approx(scored(ids[-6:]), abs=1e-6) != pytest.approx(scored(ids[:6]), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user": {"user_id": 5}}, "user.user_id"),
        ({"user": {"age": "old"}}, "user.age"),
        ({"user": {"age": 1e999}}, "user.age"),
        ({"user": {"height": 1}}, "user.height"),
        ({"user": {"history": ["item 01"]}}, "user.history_label"),
        ({"user": {"history": ["item 01"], "history_label": [2]}}, "user.history_label.0"),
        ({"user": {"history": [None], "history_label": [1]}}, "user.history.0"),
        ({"user": None}, "user"),
        ({"items": []}, "items"),
        ({"items": "item 01"}, "items"),
        ({"items": ["item 01", {"year": 1990}]}, "items.1.item_id"),
        ({"items": ["item 01", {"item_id": "item 02", "genres": ["g1", 2]}]}, "items.1.genres.1"),
        ({"items": ["item 01", None]}, "items.1.item_id"),
        ({"context": {"price": [1]}}, "context.price"),
        ({"logits": "yes"}, "logits"),
        ({"more": 1}, "more"),
    ],
)
def test_wrong_input_is_422_with_the_field(client: Client, change: dict[str, Any], field: str) -> None:
    answer = client.post({"user": {}, "items": ["item 01"], **change})
    assert answer.status == 422, answer.data
    assert list(answer.json()["fields"]) == [field] and answer.json()["error"].startswith(field)


def test_numbers_that_no_score_follows_from_are_422(client: Client) -> None:
    answer = client.post({"user": {"age": 1e308}, "items": ["item 01"]})
    assert answer.status == 422 and list(answer.json()["fields"]) == ["age", "year", "price"]


def test_what_is_no_json_is_422(client: Client) -> None:
    for data in (b"", b"{", b"\xff", b"[" * 10**5, b"null", b'{"user": {"user_id": "\\ud800"}, "items": ["a"]}'):
        assert client.post(data).status == 422


@pytest.fixture(scope="module")
def client(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = served.copied(home, tmp_path_factory.mktemp("client"))
    with serving(made) as client:
        yield client


def test_unknown_users_and_items_are_counted(client: Client) -> None:
    before = {name: client.metric(f'thawrec_unknown_total{{column="{name}"}}') for name in ("item_id", "user_id")}
    answer = client.post({"user": {"user_id": "nobody"}, "items": ["item 01", "nothing", "item 29"]})
    assert answer.status == 200
    now = {name: client.metric(f'thawrec_unknown_total{{column="{name}"}}') for name in before}
    assert now == {"item_id": before["item_id"] + 2, "user_id": before["user_id"] + 3}


def test_other_paths_and_methods(client: Client) -> None:
    assert client.get("/score").status == 405 and client.get("/").status == 404
    ready = client.get("/ready")
    assert ready.status == 200 and ready.json() == {"ready": True, "version": VERSION.name, "store": "up"}


def test_limits(made: Config) -> None:
    body = {"user": {}, "items": ["item 01"] * 3}
    options = with_options(made, max_items=3, max_body=200, max_waiting=2, timeout=0.4)
    with serving(options) as client:
        assert client.post(body).status == 200
        assert client.post({**body, "items": ["a"] * 4}).status == 413
        assert client.post({**body, "items": ["a" * 200]}).status == 413
        port = int(client.address.rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        for each in slow:
            each.sendall(b'POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"use\r\n')
        client.until(lambda: client.metric("thawrec_waiting") == 2)
        assert client.post(body).status == 429
        for each in slow:
            assert each.recv(1000).startswith(b"HTTP/1.1 408")
            each.close()
        client.until(lambda: client.metric("thawrec_waiting") == 0)
        with socket.create_connection(("127.0.0.1", port)) as endless:
            endless.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            endless.sendall(b"100\r\n" + b" " * 256 + b"\r\n")
            assert endless.recv(1000).startswith(b"HTTP/1.1 413")
        assert client.post(body).status == 200


def test_too_many_items_are_not_all_looked_at(made: Config) -> None:
    """Each of a hundred thousand items is wrong, and so is each of a history."""
    many = [5] * 100_000
    with serving(made) as client:
        answer = client.post({"user": {}, "items": many})
        assert answer.status == 413 and answer.json()["error"] == "items: expected at most 1024"
        answer = client.post({"user": {"history": many, "history_label": many}, "items": ["item 01"]})
        assert answer.status == 422 and list(answer.json()["fields"]) == ["user.history.0", "user.history_label.0"]


def test_requests_that_time_out_leave_nothing_behind() -> None:
    async def asked() -> None:
        batcher: Batcher[Asked, int] = Batcher(lambda some: [0] * len(some), 0.0, 10)
        for _ in range(3):  # nobody answers
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(batcher.ask(Asked(None, 1, False)), 0.01)
        assert not batcher._queue
        task = asyncio.create_task(batcher.run())
        assert await batcher.ask(Asked(None, 1, False)) == 0
        task.cancel()

    asyncio.run(asked())


def test_who_asks_alone_does_not_wait_and_others_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds != 0.5:  # another thread's loop
            return await sleep(seconds)
        waited.append(seconds)
        await sleep(0)

    async def asked() -> None:
        batcher: Batcher[Asked, int] = Batcher(lambda some: [0] * len(some), 0.5, 10)
        one = Asked(None, 1, False)
        task = asyncio.create_task(batcher.run())
        for _ in range(3):
            await batcher.ask(one)
        await asyncio.gather(batcher.ask(one), batcher.ask(one))
        assert not waited
        await batcher.ask(one)
        assert waited == [0.5]
        await batcher.ask(one)
        assert waited == [0.5]
        task.cancel()

    monkeypatch.setattr(asyncio, "sleep", noted)
    asyncio.run(asked())


def test_a_server_that_scores_no_more_is_not_ready(made: Config) -> None:
    with serving(with_options(made, timeout=0.3)) as client:
        task = client.server._batches
        assert task is not None and client.get("/ready").status == 200
        task.get_loop().call_soon_threadsafe(task.cancel)
        client.until(task.done)
        ready = client.get("/ready")
        assert ready.status == 503 and ready.json()["ready"] is False
        assert client.post({"user": {}, "items": ["item 01"]}).status == 503


def test_a_server_that_follows_no_more_is_not_ready(made: Config) -> None:
    with serving(made) as client:
        assert client.get("/ready").status == 200
        client.server._follower.stop()
        assert client.get("/ready").status == 503


def test_a_token_is_asked_for(made: Config, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    with serving(with_options(made, token_file=str(tmp_path / "token"))) as client:
        body = {"user": {}, "items": ["item 01"]}
        for said in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer é"}):
            headers = {key: value.encode("latin-1") for key, value in said.items()}
            assert client.post(body, **headers).status == 401 == client.get("/metrics", **headers).status  # type: ignore[arg-type]
        assert client.post(body, Authorization="Bearer s3cret").status == 200
        assert client.get("/metrics", Authorization="Bearer s3cret").status == 200
        assert client.get("/ready").status == 200
        client.server._follower.stop()  # it would find the store well again
        client.server._scorer.fail("10.0.0.5 does not answer")
        assert client.get("/ready").json()["store"] == "down"
        told = client.get("/ready", Authorization="Bearer s3cret").json()
        assert told["store"] == "down: 10.0.0.5 does not answer"
    (tmp_path / "token").write_text(" ")
    with pytest.raises(InputError, match="token: expected a secret"):
        server_of(with_options(made, token_file=str(tmp_path / "token")))


def test_a_bad_delta_is_refused_and_the_old_version_serves_on(run: Run) -> None:
    [case] = cases(run.made, [4], "item 03")
    rows: Rows = {run.row("item 03"): "item 03"}
    folder = log.folder_of(run.folder)
    with serving(run.made) as client:
        client.until_delta(run.append("item_id", rows, seed=1))
        before = client.score(case)
        client.until_delta(run.append("item_id", rows, seed=2))
        good = client.score(case)
        assert good["probabilities"] != before["probabilities"]
        number = "00000003-00000003"
        for refused, spoil in enumerate(SPOILT, 1):
            spoil(run, folder, folder / number)
            client.until(lambda refused=refused: client.metric('thawrec_deltas_total{what="refused"}') == refused)
            assert client.score(case) == good and client.metric("thawrec_store_up") == 1
            shutil.rmtree(folder / number)
        client.until_delta(run.append("item_id", rows, seed=3))
        np.testing.assert_allclose(client.score(case)["probabilities"], run.plain.score(case.rows), atol=1e-6)
        assert client.metric('thawrec_deltas_total{what="refused"}') == len(SPOILT)


def damaged(run: Run, log_folder: Path, folder: Path) -> None:
    shutil.copytree(log_folder / "00000002-00000002", folder)
    path = folder / "item_id.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def made_of(*pieces: Callable[[Run], Piece]) -> Callable[[Run, Path, Path], None]:
    def spoil(run: Run, log_folder: Path, folder: Path) -> None:
        # Whole before it has its name, as the log writes it.
        partial = folder.with_name(".partial")
        partial.mkdir()
        delta.write(partial, [piece(run) for piece in pieces], 3, 3)
        partial.rename(folder)

    return spoil


def of_version(version: Version) -> Callable[[Run], Piece]:
    vector = torch.zeros(1, 8)
    return lambda run: Piece.of("item_id", torch.tensor([1]), pa.array(["item 00"]), vector, "test", version)


SPOILT: list[Callable[[Run, Path, Path], None]] = [
    damaged,
    made_of(lambda run: run.piece("item_id", {10**6: "new"}, 1)),
    made_of(lambda run: run.piece("item_id", {run.free(): "item 03"}, 1)),
    made_of(lambda run: run.piece("item_id", {run.free(): "new", run.free() + 1: "new"}, 1)),
    made_of(lambda run: replace(run.piece("item_id", {1: "item 00"}, 1), table="no table")),
    made_of(of_version(Version("other", "run", 1))),
    made_of(of_version(Version("tables", "another", 1))),
]


def test_an_answer_is_sent_at_once() -> None:
    with (
        listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
