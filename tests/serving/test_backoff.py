"""How long is waited after failures, by hand; and what a follower waits when its store or its log fails."""

import logging
import time
from pathlib import Path

import pytest

from recsys.serving import backoff
from recsys.serving.backoff import Backoff
from recsys.serving.run import server_of
from recsys.tables import log, manifest
from recsys.tables.bundle import EXPORT
from tests.serving.served import Run
from tests.serving.test_follow import changes, with_store


def test_twice_as_long_each_time_up_to_a_bound_and_from_the_start_for_another_reason() -> None:
    waited = Backoff(0.5)
    assert [(waited.failed("a"), waited.wait) for _ in range(6)] == [
        (True, 1.0),
        (False, 2.0),
        (False, 4.0),
        (False, 5.0),
        (False, 5.0),
        (False, 5.0),
    ]
    assert waited.failed("b") and waited.wait == 1.0
    assert Backoff(60.0).failed("a") and backoff.LONGEST == 5.0


def test_after_a_long_time_a_failure_is_the_first_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    waited = Backoff(0.5)
    for _ in range(4):
        now[0] += 5.0
        waited.failed("a")
    now[0] += 29.0
    assert not waited.failed("a") and waited.wait == 5.0
    now[0] += 31.0
    assert waited.failed("a") and waited.wait == 1.0


def test_a_store_that_stays_down_is_told_of_once_and_asked_less_and_less_often(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    online = tmp_path / "online"
    online.write_text("in the way")
    follower = server_of(with_store(run.made, path=str(online)))._follower
    waits = []
    for _ in range(12):
        waits.append(follower._backoff.wait)
        follower.step()
    assert waits[:4] == pytest.approx([0.04, 0.08, 0.16, 0.32]) and waits[-1] == 5.0
    assert len([one for one in caplog.messages if "less and less often" in one]) == 1
    assert follower._metrics.registry.get_sample_value("thawrec_following") == 0
    online.unlink()
    follower.step()
    assert follower._metrics.registry.get_sample_value("thawrec_following") == 1


def test_a_store_that_fails_requests_and_seems_well_is_not_asked_at_once(run: Run) -> None:
    server = server_of(run.made)
    follower, scorer = server._follower, server._scorer
    waits = []

    def down() -> str | None:
        return scorer.down

    for _ in range(3):
        assert down() is None and follower._well
        scorer.fail("a read has failed")
        follower.step()
        waits.append(follower._backoff.wait)
        assert down() == "a read has failed"
        follower.step()
    assert waits == pytest.approx([0.04, 0.08, 0.16])


def test_what_cannot_be_written_to_the_store_leaves_what_it_holds_in_force(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, *_ = changes(run)
    first()
    server = server_of(run.made)
    second()
    [folder] = (run.folder / "online").glob("[!.]*")
    lock = folder / ".lock"
    lock.unlink()
    lock.mkdir()  # nobody can hold it
    for _ in range(3):
        server._follower.step()
        assert server._scorer.down is None and server._scorer.serves.delta == 1
    assert len([one for one in caplog.messages if "writing to the store" in one]) == 1
    lock.rmdir()
    server._follower.step()
    assert server._scorer.serves.delta == 2


def test_a_log_that_fails_is_told_of_once_and_served_on(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    server = server_of(run.made)
    (folder := log.folder_of(run.folder)).mkdir(exist_ok=True)
    (folder / "retired.json").write_text("half")
    for _ in range(4):
        server._follower.step()
    assert len([one for one in caplog.messages if "retired.json" in one]) == 1
    assert server._follower._backoff.wait == pytest.approx(0.32) and server._scorer.down is None


def test_another_export_in_its_place_is_told_of_once(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    server = server_of(run.made)
    follower = server._follower

    def needed() -> float | None:
        return follower._metrics.registry.get_sample_value("thawrec_restart_needed")

    first = changes(run)[0]
    first()
    follower.step()
    assert needed() == 0, "a delta is no other export"
    told = manifest.read(run.folder / "export", EXPORT)
    source = told.pop("source")
    body = {key: told.pop(key) for key in ("inputs", "tables", "origin", "probe", "deltas")}
    for step, expected in ((9, 1), (9, 1), (source["step"], 0)):
        body["source"] = source | {"step": step}
        manifest.write(run.folder / "export", EXPORT, told["files"], **body)
        follower.step()
        assert needed() == expected
    assert [one for one in caplog.messages if "restart" in one] == [
        f"{run.folder / 'export'}: an export of step 9 lies there now: restart to serve it"
    ]


def test_a_look_for_another_export_that_fails_stops_no_follower(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("whatever it is")

    server = server_of(run.made)
    with monkeypatch.context() as patched:
        patched.setattr(server._follower._newer, "look", fail)
        changes(run)[0]()
        for _ in range(2):
            server._follower.step()
    assert server._scorer.serves.delta == 1
    assert len([one for one in caplog.messages if "whatever it is" in one]) == 1
    server._follower.step()
    assert server._follower._well
