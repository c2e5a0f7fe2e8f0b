"""A server on this machine that speaks as vLLM does, runs a tiny model, and fails as it is told to."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Answer = dict[str, Any]
Fault = Callable[[int, str, Answer], bytes | int | None]
"""From the number of a request since the start, its path and the right answer: other bytes, an HTTP status, 0 to hang
up without an answer, or None for the right answer (which it may change)."""


def none(number: int, path: str, answer: Answer) -> None:
    """Nothing fails."""


class Brain:
    """What it answers: by whole prompts, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._model = AutoModelForCausalLM.from_pretrained(folder)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(self, text: str) -> list[int]:
        with self._lock:
            return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def read(self, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits after a prompt, and the mean of its states."""
        with self._lock, torch.no_grad():
            out = self._model(torch.tensor([ids]), output_hidden_states=True)
        return out.logits[0, -1].double(), out.hidden_states[-1][0].mean(dim=0)


@dataclass
class Server:
    """One that is up.

    Attributes:
        requests: paths and bodies of the requests, without those of /tokenize.
        answered: prompts that were answered as they should be.
        busiest: how many requests it had at a time.
    """

    brain: Brain
    fault: Fault = none
    generative: bool = True
    longest: int = 512
    http: Any = None
    requests: list[tuple[str, Answer]] = field(default_factory=list)
    answered: list[tuple[int, ...]] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    lock: Any = field(default_factory=threading.Lock)
    open: set[Any] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def start(self, port: int = 0) -> None:
        self.http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def kill(self) -> int:
        """End it with all its connections; returns its port."""
        port = self.http.server_address[1]
        self.http.shutdown()
        self.http.server_close()
        for one in list(self.open):
            with suppress(OSError):  # it may just have ended by itself
                one.shutdown(socket.SHUT_RDWR)
        return port

    def restart(self) -> None:
        """Kill it, and have it up again at the same port after a while."""
        port = self.kill()
        time.sleep(0.2)
        self.start(port)

    def answer(self, path: str, body: Answer) -> tuple[Answer, list[list[int]]] | None:
        """The answer and the prompts that it answers; None where there is no such route."""
        if path == "/generative_scoring" and self.generative:
            prompts = [body["query"] + one for one in body["items"]]
            labels = body["label_token_ids"]
            scores = [float(self.brain.read(one)[0][labels].softmax(0)[0]) for one in prompts]
            return {"data": [{"index": at, "score": one} for at, one in enumerate(scores)][::-1]}, prompts
        if path == "/v1/completions":
            prompts, allowed = body["prompt"], body["allowed_token_ids"]
            choices = []
            for at, one in enumerate(prompts):
                told = self.brain.read(one)[0][allowed].log_softmax(0).tolist()
                top = {f"token_id:{token}": value for token, value in zip(allowed, told, strict=True)}
                choices.append({"index": at, "logprobs": {"top_logprobs": [top]}})
            return {"choices": choices}, prompts
        if path == "/v1/embeddings":
            data = [
                {"index": at, "embedding": self.brain.read(one)[1].tolist()} for at, one in enumerate(body["input"])
            ]
            return {"data": data}, body["input"]
        return None


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server.open.add(self.connection)

        def finish(self) -> None:
            server.open.discard(self.connection)
            super().finish()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/tokenize":
                told = {"tokens": server.brain.tokens(body["prompt"]), "max_model_len": server.longest}
                return self._say(200, json.dumps(told).encode())
            found = server.answer(self.path, body)
            if found is None:
                return self._say(404, b'{"detail":"Not Found"}')
            answer, prompts = found
            with server.lock:
                server.busy += 1
                server.busiest = max(server.busiest, server.busy)
                server.requests.append((self.path, body))
                number = len(server.requests)
            instead = server.fault(number, self.path, answer)
            with server.lock:
                server.busy -= 1
            if instead is None:
                server.answered += [tuple(one) for one in prompts]
            if instead == 0:
                self.close_connection = True
            elif isinstance(instead, int):
                self._say(instead, b'{"error":{"message":"the words\\nof the server"}}')
            else:
                self._say(200, instead or json.dumps(answer).encode())

        def _say(self, status: int, told: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def running(brain: Brain, **options: Any) -> Iterator[Server]:
    """A server that is up until the block ends, at a port of its own."""
    made = Server(brain, **options)
    made.start()
    try:
        yield made
    finally:
        made.kill()
