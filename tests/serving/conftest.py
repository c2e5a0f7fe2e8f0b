"""What the tests of serving share."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.tables.bundle import Bundle
from tests import contents
from tests.ranks import run_ranks
from tests.serving import served
from tests.serving.served import Run


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, a run and its export."""
    home = contents.home(tmp_path_factory.mktemp("serving"))
    path = home / "data" / "items.parquet"
    items = pq.read_table(path)
    pq.write_table(items.append_column("categories", items["genres"]), path)
    run_ranks(1, served.write_run, served.config(home))
    return home


@pytest.fixture(scope="session")
def exported(home: Path) -> Bundle:
    return Bundle.load(home / "run" / "export")


@pytest.fixture
def run(home: Path, exported: Bundle, tmp_path: Path) -> Run:
    """A run of its own, served from files."""
    return Run(served.copied(home, tmp_path), exported)


@pytest.fixture
def made(run: Run) -> Config:
    return run.made


@dataclass
class Redis:
    """A Redis server that keeps nothing."""

    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            assert self.process.poll() is None
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A real Redis server."""
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Redis(port)
    server.start()
    yield server
    server.kill()
