"""What holds for every test: one thread a process, and no network beyond this machine."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.bucket import Bucket

# Before anything imports torch, and inherited by ranks and by commands under test. The proxy leads nowhere: a command
# that tries to download fails at once instead of passing on one machine only.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    GLOO_SOCKET_IFNAME="lo",
    HTTP_PROXY="http://127.0.0.1:9",
    HTTPS_PROXY="http://127.0.0.1:9",
    http_proxy="http://127.0.0.1:9",
    https_proxy="http://127.0.0.1:9",
    NO_PROXY="localhost,127.0.0.1,::1",
    no_proxy="localhost,127.0.0.1,::1",
    PIP_NO_INDEX="1",
    HF_HUB_OFFLINE="1",
)


def is_local(host: object) -> bool:
    """Whether a socket address's host is this machine (a Unix socket's path has no host)."""
    return host in (None, "", "localhost", "::1", "0.0.0.0", "::", socket.gethostname()) or str(host).startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse Python sockets to other machines; gloo's own sockets stay on the loopback interface."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any, original: Any = original) -> Any:
            if self.family != socket.AF_UNIX and not is_local(address[0]):
                raise AssertionError(f"a test tried to reach the network: {address}")
            return original(self, address)

        patch.setattr(socket.socket, name, guarded)
    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *rest: Any, **options: Any) -> Any:
        if not is_local(host):
            raise AssertionError(f"a test tried to look up a host: {host}")
        return look_up(host, *rest, **options)

    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where converted weights are kept, for all tests that need the real ones: converting takes many seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def bucket() -> Iterator["Bucket"]:
    """A bucket of an S3 server, for all tests of a process."""
    from tests.bucket import served  # takes a second, which other tests need not wait

    with served() as found:
        yield found
