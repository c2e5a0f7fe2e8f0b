"""A server of a config's bundle, from its files to an open socket."""

import logging
import math
import socket
from pathlib import Path

import uvicorn

from recsys.config import Config
from recsys.errors import InputError
from recsys.serving.app import Server
from recsys.serving.follow import BundleDeltas, Follower, RunLog
from recsys.serving.metrics import Metrics
from recsys.serving.scorer import Scorer
from recsys.serving.secrets import read_secret
from recsys.serving.stores import open_store
from recsys.tables.bundle import Bundle
from recsys.tables.version import Version

_LOG = logging.getLogger(__name__)


def server_of(config: Config) -> Server:
    """Load the bundle, prove that it scores here as where it was made, and bring it up to its deltas.

    Raises:
        InputError: the bundle is not whole or scores otherwise, or a secret cannot be read.
    """
    options = config.serving
    folder = Path(options.bundle or f"{config.run}/export")
    token = read_secret(options.token_file) if options.token_file else None
    bundle = Bundle.load(folder)
    bundle.check()
    metrics = Metrics()
    types = {name: ids.kind for name, ids in bundle.ids.items()}
    store = open_store(options.store, folder.parent, Version(**bundle.told["origin"]), types)
    scorer = Scorer(bundle, store)
    feed = BundleDeltas(folder) if options.bundle else RunLog(Path(config.run))
    follower = Follower(scorer, feed, metrics, options.poll, config.tables.max_staleness)
    follower.step()
    return Server(scorer, follower, metrics, options, token)


def listen(host: str, port: int) -> socket.socket:
    """An open socket whose connections send at once.

    Raises:
        InputError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InputError(f"serving.host={host} serving.port={port}: {error}") from None
    # asyncio does so for sockets of its own making alone. Without it an answer's body waits for the acknowledgement of
    # its head, which the other side delays by 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve(config: Config) -> None:
    """Serve until a signal ends it.

    Raises:
        InputError: as `server_of`, or the address cannot be listened on.
    """
    server, options = server_of(config), config.serving
    listening = listen(options.host, options.port)
    if options.token_file is None and not options.host.startswith("127.") and options.host not in ("localhost", "::1"):
        _LOG.warning("%s: anyone who can connect may ask: give a serving.token_file", options.host)
    print(f"serving: http://{options.host}:{listening.getsockname()[1]}", flush=True)
    settings = uvicorn.Config(
        server.app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=math.ceil(2 * options.timeout),  # a body, and its answer
    )
    uvicorn.Server(settings).run(sockets=[listening])
