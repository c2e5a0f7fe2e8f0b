"""What a request may cost before it is looked at: who asks, how many at a time, how large and how slow a body is."""

import asyncio
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request

from recsys.config_serving import Serving
from recsys.serving.metrics import Metrics


class RefusedError(Exception):
    """An answer other than 200: its status, and what is told."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None, **told: Any) -> None:
        super().__init__(error)
        self.status, self.told, self.headers = status, {"error": error, **told}, headers or {}


class Limits:
    """The limits of one server; each method raises `RefusedError` where one is passed."""

    def __init__(self, options: Serving, token: str | None, metrics: Metrics) -> None:
        self._options, self._metrics, self._waiting = options, metrics, 0
        self._expected = None if token is None else f"Bearer {token}".encode()

    def require_token(self, request: Request) -> None:
        """401 without the bearer token."""
        if not self.may_ask(request):
            raise RefusedError(401, "expected the bearer token", {"WWW-Authenticate": "Bearer"})

    def may_ask(self, request: Request) -> bool:
        """Whether it has the bearer token; how long it takes does not tell how much of it was right."""
        said = request.headers.get("authorization", "").encode("latin-1")
        return self._expected is None or hmac.compare_digest(said, self._expected)

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places inside the server; 429 where all are taken."""
        if self._waiting >= self._options.max_waiting:
            raise RefusedError(429, f"{self._waiting} requests are waiting already", {"Retry-After": "1"})
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        try:
            yield
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)

    async def body(self, request: Request) -> bytes:
        """The body, read in a stream: 413 where it is too large, 408 where it does not come in time."""
        most, parts, size = self._options.max_body, [], 0
        too_large = RefusedError(413, f"expected a body of at most {most} bytes", {"Connection": "close"})
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > most:
            raise too_large
        try:
            async with asyncio.timeout(self._options.timeout):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > most:
                        raise too_large
        except TimeoutError:
            raise RefusedError(408, "the body did not come in time", {"Connection": "close"}) from None
        except ClientDisconnect:
            raise RefusedError(400, "the body ended early") from None
        return b"".join(parts)
