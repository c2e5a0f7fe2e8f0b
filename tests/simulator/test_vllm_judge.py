"""The judge over HTTP against the judge in this process, both of one tiny model: same answers, and whatever a server
does, each question is answered once or the run ends with what was said.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.config_simulator import Requests
from recsys.errors import InputError
from simulator import judge
from simulator.endpoints import ALONE, Endpoints, Share
from tests.proxy import models as encoders
from tests.simulator import models
from tests.simulator.servers import Answer, Brain, Fault, Server, running
from tests.simulator.test_judge import CONTEXTS, CPU, ITEMS, PAIRS, load

NOBODY = "http://127.0.0.1:9"
"""The port of `discard`, at which nobody listens."""
QUICK = {"timeout": 20.0, "retries": 2, "backoff": 0.01, "in_flight": 1}


@pytest.fixture(scope="module")
def brain(folder: Path) -> Brain:
    return Brain(folder)


@pytest.fixture(scope="module")
def expected(folder: Path) -> NDArray[np.float32]:
    return load(folder).score(CONTEXTS, ITEMS, PAIRS)


def over(
    folder: Path, *servers: Server | str, requests: dict[str, Any] | None = None, share: Share = ALONE, **options: Any
) -> judge.Judge:
    urls = [one if isinstance(one, str) else one.url for one in servers]
    asked = {"backend": "vllm", "endpoints": urls, "requests": QUICK | (requests or {}), **options}
    return judge.load(models.config(folder, **asked), CPU, share)


@pytest.fixture(scope="module")
def every(folder: Path, brain: Brain) -> Counter[tuple[int, ...]]:
    """The prompts of all questions."""
    with running(brain) as server:
        over(folder, server).score(CONTEXTS, ITEMS, PAIRS)
        return Counter(server.answered)


def answered(*servers: Server) -> Counter[tuple[int, ...]]:
    return Counter(one for server in servers for one in server.answered)


@pytest.mark.parametrize("generative", [True, False], ids=["generative_scoring", "completions"])
def test_answers_are_those_of_the_other_backend(
    folder: Path, brain: Brain, expected: NDArray[np.float32], generative: bool
) -> None:
    with running(brain, generative=generative) as server:
        asked = over(folder, server, requests={"in_flight": 3})
        made = asked.score(CONTEXTS, ITEMS, PAIRS)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, expected, atol=1e-5)
        path = "/generative_scoring" if generative else "/v1/completions"
        assert {one for one, _ in server.requests} == {path} and len(server.answered) == len(PAIRS)
        assert asked.score(CONTEXTS, ITEMS, PAIRS[:0]).shape == (0,)


def test_a_users_items_share_a_request(folder: Path, brain: Brain) -> None:
    """So that a server computes their history once; no request has more than `batch_size`."""
    with running(brain) as server:
        over(folder, server, batch_size=5).score(CONTEXTS, ITEMS, PAIRS)
        sizes = [len(body["items"]) for _, body in server.requests]
        queries = [tuple(body["query"]) for _, body in server.requests]
        assert sizes == [5, 2, 5, 1, 5, 1, 5, 2, 5, 1]
        assert len(dict.fromkeys(queries)) == len(CONTEXTS) and queries == sorted(queries, key=queries.index)


def test_a_server_has_as_many_requests_at_a_time_as_it_may(folder: Path, brain: Brain) -> None:
    two = threading.Barrier(2, timeout=20)

    def in_pairs(number: int, path: str, answer: Answer) -> None:
        two.wait()

    with running(brain, fault=in_pairs) as server:
        over(folder, server, batch_size=1, requests={"in_flight": 2}).score(CONTEXTS, ITEMS, PAIRS)
        assert server.busiest == 2 and not two.broken


def first(what: bytes | int, times: int = 1) -> Fault:
    """The first requests fail."""
    return lambda number, path, answer: what if number <= times else None


@pytest.mark.parametrize("what", [0, 500, 503, 429, b"<html>"])
def test_what_fails_is_asked_again_and_nothing_else(
    folder: Path, brain: Brain, expected: NDArray[np.float32], every: Counter[tuple[int, ...]], what: bytes | int
) -> None:
    with running(brain, fault=first(what, times=2)) as server:
        np.testing.assert_allclose(over(folder, server).score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
        assert answered(server) == every


def test_a_server_that_hangs_is_asked_no_more(
    folder: Path, brain: Brain, expected: NDArray[np.float32], every: Counter[tuple[int, ...]]
) -> None:
    """One that has taken a request and says nothing; its request goes to the other one."""
    end = threading.Event()

    def hangs(number: int, path: str, answer: Answer) -> int:
        end.wait(60)
        return 0

    with running(brain) as well, running(brain, fault=hangs) as ill:
        asked = over(folder, ill, well, requests={"timeout": 1.0, "backoff": 30.0})
        np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
        end.set()
        assert answered(well) == every and len(ill.requests) == 1


@pytest.mark.parametrize("at", [0, 1], ids=["the first", "the second"])
def test_the_work_of_a_dead_server_goes_to_the_other(
    folder: Path, brain: Brain, expected: NDArray[np.float32], every: Counter[tuple[int, ...]], at: int
) -> None:
    with running(brain) as well:
        urls = [well.url]
        urls.insert(at, NOBODY)
        np.testing.assert_allclose(over(folder, *urls).score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
        assert answered(well) == every


def test_a_server_killed_on_the_way_is_waited_for(
    folder: Path, brain: Brain, expected: NDArray[np.float32], every: Counter[tuple[int, ...]]
) -> None:
    """Killed with a request under way and started again at the same port: what it had answered stays answered."""
    server = Server(brain)

    def dies(number: int, path: str, answer: Answer) -> int | None:
        if number != 3:
            return None
        server.restart()
        return 0

    server.fault = dies
    server.start()
    asked = over(folder, server, batch_size=3, requests={"retries": 8})
    np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
    assert answered(server) == every
    server.kill()


def test_processes_share_servers_out() -> None:
    """Every server is somebody's, and has as many requests of all as it may; processes with one each share alike."""
    for servers, ranks, in_flight in ((5, 2, 4), (2, 2, 4), (2, 5, 8), (1, 3, 8), (3, 3, 1)):
        limits = np.array([Share(rank, ranks).limits(servers, in_flight) for rank in range(ranks)])
        assert (limits.sum(axis=0) == in_flight).all() and (limits.sum(axis=1) > 0).all()
        # In order: what is the first's comes before what is the second's.
        assert (np.diff([np.flatnonzero(one).mean() for one in limits]) >= 0).all()
    assert [Share(rank, 3).limits(1, 2) for rank in range(3)] == [[1], [1], [1]]


def test_processes_whose_own_servers_are_down_turn_to_different_ones() -> None:
    urls, config = [f"http://127.0.0.1:{port}" for port in range(1, 7)], Requests()
    asked = [Endpoints("endpoints", urls, config, lambda server: None, Share(rank, 3)) for rank in range(3)]
    orders = [[server.url for server in one._servers] for one in asked]
    assert [order[0] for order in orders] == urls[::2] and [order[2] for order in orders] == [*urls[2::2], urls[0]]


def test_a_process_asks_its_own_server_and_the_others_only_while_that_is_down(
    folder: Path, brain: Brain, expected: NDArray[np.float32], every: Counter[tuple[int, ...]]
) -> None:
    mine = Server(brain)
    mine.start()
    with running(brain) as other:
        asked = over(folder, mine, other, share=Share(0, 2))
        np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
        assert answered(mine) == every and not other.requests
        port = mine.kill()
        np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
        assert answered(mine) == answered(other) == every
        mine.start(port)
        deadline = time.monotonic() + 60
        while len(mine.answered) == len(PAIRS) and time.monotonic() < deadline:  # it is left alone for a while
            asked.score(CONTEXTS, ITEMS, PAIRS)
        mine.answered, other.answered = [], []
        np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
        assert answered(mine) == every and not other.answered
    mine.kill()


def test_where_all_are_dead_the_run_ends(folder: Path) -> None:
    nobody = [NOBODY, "http://127.0.0.1:19"]
    asked = over(folder, *nobody, requests={"in_flight": 3})
    with pytest.raises(InputError, match=r"^simulator\.judge\.endpoints: no answer after 3 attempts: ") as one:
        asked.score(CONTEXTS, ITEMS, PAIRS)
    assert all(f"{url}/tokenize: " in str(one.value) for url in nobody)
    assert str(one.value).count("refused") == 2 and "\n" not in str(one.value)


def test_a_run_that_ended_may_be_taken_up(
    folder: Path, brain: Brain, expected: NDArray[np.float32], every: Counter[tuple[int, ...]]
) -> None:
    """By the same judge, once a server is up again."""
    server = Server(brain)
    server.start()
    port = server.kill()
    asked = over(folder, server)
    with pytest.raises(InputError, match="no answer after 3 attempts"):
        asked.score(CONTEXTS, ITEMS, PAIRS)
    server.start(port)
    np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=1e-5)
    assert answered(server) == every
    server.kill()


def changed(change: Callable[[list[dict[str, Any]]], Any]) -> Fault:
    """The entries of every answer are changed in place."""

    def fault(number: int, path: str, answer: Answer) -> bytes:
        change(answer["data" if "data" in answer else "choices"])
        return json.dumps(answer).encode()

    return fault


MALFORMED: dict[str, tuple[Fault, str]] = {
    "no JSON": (lambda *_: b"<html>\nso sorry</html>", "expected JSON, got <html> so sorry</html>"),
    "no object": (lambda *_: b"[1]", r"expected \d entries of data, got \[1\]"),
    "no entries": (lambda *_: b"{}", r"expected \d entries of data, got \{\}"),
    "too few": (changed(lambda data: data.pop()), r"expected \d entries of data, got"),
    "too many": (changed(lambda data: data.append({"index": 9, "score": 0.5})), r"expected \d entries of data, got"),
    "one twice": (changed(lambda data: data[0].update(index=data[-1]["index"] + 1)), "expected . entries of data, got"),
    "none": (changed(lambda data: data[0].update(score=None)), r"expected . entries of data, got .*None"),
    "NaN": (changed(lambda data: data[0].update(score=float("nan"))), r"probabilities in \[0, 1\], got nan"),
    "too large": (changed(lambda data: data[0].update(score=10**400)), r"expected . entries of data, got .*000"),
    "too sure": (changed(lambda data: data[0].update(score=1.5)), r"probabilities in \[0, 1\], got 1\.5"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_answers_are_asked_again_and_then_refused(folder: Path, brain: Brain, kind: str) -> None:
    fault, message = MALFORMED[kind]
    with running(brain, fault=fault) as server:
        with pytest.raises(
            InputError, match=rf"no answer after 3 attempts: {server.url}/generative_scoring: .*{message}"
        ):
            over(folder, server).score(CONTEXTS, ITEMS, PAIRS[:6])
        assert len(server.requests) == 3


def test_a_completion_must_tell_both_answers(folder: Path, brain: Brain) -> None:
    """As a server does that tells the likeliest of all tokens only."""
    fault = changed(lambda data: data[0]["logprobs"]["top_logprobs"][0].popitem())
    with running(brain, fault=fault, generative=False) as server:
        with pytest.raises(
            InputError, match=r"/v1/completions: expected the log-probability of token_id:\d+, got .*; the server may"
        ):
            over(folder, server).score(CONTEXTS, ITEMS, PAIRS[:6])
        assert len(server.requests) == 3


def test_one_bad_server_of_two_changes_nothing(folder: Path, brain: Brain, expected: NDArray[np.float32]) -> None:
    with running(brain, fault=MALFORMED["NaN"][0]) as ill, running(brain) as well:
        made = over(folder, ill, well).score(CONTEXTS, ITEMS, PAIRS)
        np.testing.assert_allclose(made, expected, atol=1e-5)
        assert len(ill.requests) >= 1


def test_what_a_server_refuses_is_not_asked_again(folder: Path, brain: Brain) -> None:
    with running(brain, fault=lambda *_: 400) as server:
        with pytest.raises(
            InputError, match=r"endpoints: http://\S+/generative_scoring: HTTP 400: .*the words.*server"
        ):
            over(folder, server).score(CONTEXTS, ITEMS, PAIRS)
        assert len(server.requests) == 1


def test_a_server_of_another_model_is_refused(folder: Path, brain: Brain, tmp_path: Path) -> None:
    other = Brain(encoders.llama(tmp_path))
    with (
        running(other) as server,
        pytest.raises(InputError, match=rf"{server.url}: its tokenizer is not that of {folder}"),
    ):
        over(folder, server).score(CONTEXTS, ITEMS, PAIRS)
    with running(brain, longest=150) as server:
        with pytest.raises(
            InputError, match=rf"{server.url}: it reads 150 tokens, a question can have 1\d\d; expected"
        ):
            over(folder, server).score(CONTEXTS, ITEMS, PAIRS)
        assert not server.requests


@pytest.mark.parametrize("embedder", [True, False], ids=["by a server", "in process"])
def test_embeddings_are_those_of_the_other_backend(folder: Path, brain: Brain, embedder: bool) -> None:
    with running(brain) as server:
        asked = over(folder, NOBODY, embedders=[server.url] if embedder else [])
        np.testing.assert_allclose(asked.embed(ITEMS), load(folder).embed(ITEMS), atol=1e-5)
        assert asked.embed(["", " "]).shape == (2, encoders.WIDTH) and asked.embed([]).shape == (0, encoders.WIDTH)
        assert len(server.requests) == (2 if embedder else 0)


def test_a_vector_that_is_none_is_refused(folder: Path, brain: Brain) -> None:
    said = r"embedders: no answer after 3 attempts: .*/v1/embeddings: expected"
    shorter = changed(lambda data: data[0]["embedding"].pop())
    with running(brain, fault=shorter) as server, pytest.raises(InputError, match=said):
        over(folder, server, embedders=[server.url]).embed(ITEMS)


def test_what_servers_cannot_be_asked_for_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^simulator\.judge\.endpoints: expected the URL"):
        over(folder)
    with pytest.raises(InputError, match=r"^simulator\.judge\.adapter: servers have their own weights"):
        over(folder, NOBODY, adapter="somewhere")
    with pytest.raises(InputError, match=r"simulator\.judge\.name: nobody/nothing: no tokenizer"):
        over(Path("nobody/nothing"), NOBODY)
