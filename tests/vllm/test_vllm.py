"""The judge on a real vLLM server against the judge in this process, both of SmolLM2 in float32."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.config_simulator import Judge, Prompt, Requests, Simulator
from recsys.content import pretrained
from recsys.errors import InputError
from simulator import judge
from simulator.endpoints import Endpoints
from tests.simulator import models
from tests.simulator.models import FILM
from tests.simulator.test_judge import CONTEXTS, CPU, ITEMS, PAIRS
from tests.vllm.serving import PYTHON, TOKENS, Server

pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="needs a vLLM server, in an environment of its own: run by make test-vllm"
)
CLOSE = 1e-4
"""Of P(Yes), by rounding; in bfloat16 both backends are within 0.0625 of these."""
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    return pretrained.smollm2(cache, "")


@pytest.fixture(scope="module")
def servers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """One that generates and one that embeds, which may still be starting."""
    logs = tmp_path_factory.mktemp("vllm")
    pools = ["--runner", "pooling", "--pooler-config", '{"pooling_type": "MEAN"}']
    made = Server(folder, logs / "generate"), Server(folder, logs / "pool", *pools)
    yield made
    for one in made:
        one.kill()


@pytest.fixture(scope="module")
def server(servers: tuple[Server, Server]) -> Server:
    return servers[0].wait()


@pytest.fixture(scope="module")
def here(folder: Path) -> judge.Judge:
    return judge.load(Simulator(prompt=FILM, judge=Judge(name=str(folder), bf16=False)), CPU)


@pytest.fixture(scope="module")
def expected(here: judge.Judge) -> NDArray[np.float32]:
    return here.score(CONTEXTS, ITEMS, PAIRS)


def over(folder: Path, *endpoints: str, prompt: Prompt = FILM, **options: Any) -> judge.Judge:
    asked = {"name": str(folder), "bf16": False, "backend": "vllm", "endpoints": list(endpoints), **options}
    return judge.load(Simulator(prompt=prompt, judge=Judge(**asked)), CPU)


def test_answers_are_those_of_the_other_backend(folder: Path, server: Server, expected: NDArray[np.float32]) -> None:
    assert expected.std() > 0.02
    asked = over(folder, server.url)
    np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=CLOSE)
    # A gateway may pass the routes of OpenAI on, and no others.
    asked._plain.add(server.url)  # type: ignore[attr-defined]
    np.testing.assert_allclose(asked.score(CONTEXTS, ITEMS, PAIRS), expected, atol=CLOSE)


def test_the_work_of_a_dead_server_goes_to_the_other(
    folder: Path, server: Server, expected: NDArray[np.float32]
) -> None:
    found = over(folder, NOBODY, server.url).score(CONTEXTS, ITEMS, PAIRS)
    np.testing.assert_allclose(found, expected, atol=CLOSE)


def test_what_the_server_refuses_is_told_in_its_words(server: Server) -> None:
    servers = Endpoints("simulator.judge.endpoints", [server.url], Requests(), lambda one: None)
    body = {"query": [10**8], "items": [[1]], "label_token_ids": [1, 2]}
    with pytest.raises(InputError, match=r"endpoints: http://\S+/generative_scoring: HTTP 400: .*vocabulary"):
        list(servers.ask([(0, lambda one: one.post("/generative_scoring", body))]))


def test_a_server_of_another_model_or_of_shorter_prompts_is_refused(
    folder: Path, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"{server.url}: its tokenizer is not that of"):
        over(models.folder(tmp_path), server.url).score(CONTEXTS, ITEMS, PAIRS)
    with pytest.raises(InputError, match=rf"{server.url}: it reads {TOKENS} tokens, a question can have \d+"):
        over(folder, server.url, prompt=Prompt()).score(CONTEXTS, ITEMS, PAIRS)


def test_embeddings_are_those_of_the_other_backend(
    folder: Path, servers: tuple[Server, Server], here: judge.Judge
) -> None:
    found = over(folder, NOBODY, embedders=[servers[1].wait().url]).embed(ITEMS)
    expected = here.embed(ITEMS)
    np.testing.assert_allclose(found, expected, atol=1e-3 * float(np.abs(expected).max()))


def test_a_server_killed_on_the_way_is_waited_for(folder: Path, server: Server, expected: NDArray[np.float32]) -> None:
    """kill -9 with questions under way, then started again at the same port: those it had answered stay answered."""
    patient = Requests(retries=10, in_flight=1)
    asked = over(folder, server.url, batch_size=1, requests=patient)
    found: list[NDArray[np.float32]] = []
    before = server.answered()
    run = threading.Thread(target=lambda: found.append(asked.score(CONTEXTS, ITEMS, PAIRS)))
    run.start()
    while (answered := server.answered() - before) < 5:
        assert run.is_alive()
    server.kill()
    server.start()
    run.join()
    np.testing.assert_allclose(found[0], expected, atol=CLOSE)
    # The one that was under way may have been counted.
    assert 0 < server.answered() <= len(PAIRS) - answered + 1
