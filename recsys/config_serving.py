"""The part of the config that says how a bundle answers over HTTP, and where its newest rows are kept."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Positive

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Above zero."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Store:
    """The online store: the rows that deltas have changed since the bundle was made, shared by many servers."""

    kind: Literal["file", "redis"] = "file"
    """Memory-mapped files, for the servers of one machine; or a Redis server, for those of many."""
    path: str | None = None
    """file: the folder; None: `online` beside the bundle."""
    url: str = "redis://127.0.0.1:6379/0"
    """redis: the server. Say the password in `password_file`, not here."""
    password_file: str | None = None
    """redis: a file with the password."""
    timeout: Seconds = 0.25
    """redis: seconds that a call may take before the store counts as down."""
    keep: Positive = 7
    """Days after which the store of another training run or step, in the same place, is removed if no server has used
    it. Who comes back for it fills it again."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Serving:
    """A scorer that takes deltas without a pause (`tools.serve`)."""

    bundle: str | None = None
    """The bundle to serve. None: `<run>/export`, with the deltas of the run's log as they come; a path: that bundle,
    with the deltas that are put into it (`tools.delta --to`)."""
    host: str = "127.0.0.1"
    """Address to listen on; the default takes requests of this machine alone."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0: any that is free."""
    token_file: str | None = None
    """A file with a bearer token, which /score and /metrics then ask for; None: anyone who can connect may ask."""
    window: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Seconds that a request waits for others to be scored with, unless the last one was alone; those that come while a
    batch is scored wait for it anyway."""
    max_rows: Positive = 1024
    """Items scored at a time, of all requests together; a single request may have more."""
    max_items: Positive = 1024
    """Items of a request (413 beyond)."""
    max_body: Positive = 1 << 20
    """Bytes of a request's body (413 beyond)."""
    max_waiting: Positive = 256
    """Requests inside the server at a time (429 beyond)."""
    timeout: Seconds = 10.0
    """Seconds in which a body must have come (408 beyond) and then be answered (503 beyond)."""
    poll: Seconds = 0.1
    """Seconds between looks for new deltas; after looks that fail longer and longer, up to 5."""
    store: Store = field(default_factory=Store)
    """Where rows of deltas are kept."""
