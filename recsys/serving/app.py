"""The HTTP server of a scorer: POST /score, GET /ready, GET /metrics."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from recsys.config_serving import Serving
from recsys.serving.batching import Batcher
from recsys.serving.follow import Follower
from recsys.serving.limits import Limits, RefusedError
from recsys.serving.metrics import Metrics
from recsys.serving.requests import Asked, InvalidError, Schema, TooManyError
from recsys.serving.scorer import Scorer

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answer:
    """Probabilities [n] float32 of a request's items, all by one version."""

    probabilities: Tensor
    version: str
    stored: bool


class Server:
    """What the routes share. `app` is to be run in one event loop, once."""

    def __init__(
        self, scorer: Scorer, follower: Follower, metrics: Metrics, options: Serving, token: str | None = None
    ) -> None:
        self._scorer, self._follower, self._metrics, self._options = scorer, follower, metrics, options
        self._schema, self._limits = Schema(scorer.bundle, options.max_items), Limits(options, token, metrics)
        self._batcher = Batcher(self._answers, options.window, options.max_rows)
        self._batches: asyncio.Task[None] | None = None
        routes = [
            Route("/score", self._score, methods=["POST"]),
            Route("/ready", self._ready),
            Route("/metrics", self._tell),
        ]
        self.app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers={RefusedError: _refused})

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._batches = batches = asyncio.create_task(self._batcher.run())
        self._follower.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._follower.stop)
            batches.cancel()
            await asyncio.wait([batches])

    async def _score(self, request: Request) -> Response:
        began, status = time.perf_counter(), 500
        try:
            response = await self._scored(request)
            status = response.status_code
            return response
        except RefusedError as error:
            status = error.status
            raise
        finally:
            self._metrics.requests.labels(str(status)).inc()
            self._metrics.seconds.observe(time.perf_counter() - began)

    async def _scored(self, request: Request) -> Response:
        self._limits.require_token(request)
        with self._limits.place():
            body = await self._limits.body(request)
            try:
                asked = self._schema.parse(body)
            except TooManyError:
                raise RefusedError(413, f"items: expected at most {self._options.max_items}") from None
            except InvalidError as error:
                first, said = next(iter(error.errors.items()))
                raise RefusedError(422, f"{first}: {said}", fields=error.errors) from None
            try:
                answer = await asyncio.wait_for(self._batcher.ask(asked), self._options.timeout)
            except TimeoutError:
                raise RefusedError(503, "no answer in time", {"Retry-After": "1"}) from None
        if not answer.probabilities.isfinite().all():
            # Only a number from outside can be so large; what it does to a score depends on the weights.
            said = "numbers too large to score by"
            raise RefusedError(
                422, f"{', '.join(self._schema.dense)}: {said}", fields=dict.fromkeys(self._schema.dense, said)
            )
        told = {
            "version": answer.version,
            "store": "up" if answer.stored else "down",
            "probabilities": answer.probabilities.tolist(),
        }
        return JSONResponse(told | ({"logits": _logits(answer.probabilities).tolist()} if asked.logits else {}))

    async def _ready(self, request: Request) -> Response:
        """503 once nothing is scored, or no delta followed, any more; without its store a server is ready. Why it is
        down may name machines: who may not ask for scores is not told."""
        down = self._scorer.down
        why = f"down: {down}" if self._limits.may_ask(request) else "down"
        ready = self._batches is not None and not self._batches.done() and self._follower.alive
        told = {"ready": ready, "version": self._scorer.serves.name, "store": "up" if down is None else why}
        return JSONResponse(told, 200 if ready else 503)

    async def _tell(self, request: Request) -> Response:
        self._limits.require_token(request)
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    def _answers(self, asked: Sequence[Asked]) -> list[Answer]:
        scored = self._scorer.score(self._schema.table(asked))
        self._metrics.batch.observe(len(scored.probabilities))
        self._metrics.store_up.set(scored.stored)
        if not scored.stored:
            self._metrics.alone.inc()
        for column, rows in scored.unknown.items():
            self._metrics.unknown.labels(column).inc(rows)
        parts = scored.probabilities.split([each.rows for each in asked])
        return [Answer(part, scored.version.name, scored.stored) for part in parts]


def _logits(probabilities: Tensor) -> Tensor:
    """ln p / (1 - p) in float64, within 17 of zero: a float32 probability tells no more."""
    return torch.logit(probabilities.double(), eps=2**-24)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse(error.told, HTTPStatus(error.status), error.headers)
