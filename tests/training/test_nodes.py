"""Two agents of torchrun, each in a network namespace of its own: two machines, as far as their network can tell."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys import settings
from recsys.config import Config
from tests import wide
from tests.ranks import run_ranks
from tests.training.test_killed import MODEL, ROWS, TRAIN, told, train_whole

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("10.77.0.1", "10.77.0.2")
STEP, STEPS = 6, 8
"""The step before which a rank is killed; steps of the run."""


def ip(*words: str) -> None:
    """Skips the test where the machine does not let it."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespaces here: ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """The names of two namespaces that reach each other by `eth0`."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need `ip` (Debian: iproute2)")
    names = [f"thawrec-{os.getpid()}-{k}" for k in range(2)]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, HOSTS, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=True)


def config(home: Path, run: str) -> Config:
    """Every table row by row over the ranks, wherever these are: the planner would see two machines in two hosts."""
    features = [each if each.get("kind") == "dense" else {**each, "sharding": "row_wise"} for each in wide.FEATURES]
    sharding = {"features": features, "item_sharding": "row_wise"}
    return wide.config(home / "data", home / run, model=MODEL, train=TRAIN, **sharding)


def agent(number: int, name: str, *command: str) -> subprocess.Popen[str]:
    """torchrun on one of the machines, as each is started by hand; the first hosts the meeting."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{HOSTS[0]}:29400", "--rdzv-id", "nodes"]
    place = ["--rdzv-conf", f"is_host={1 - number}", "--local-addr", HOSTS[number], "--max-restarts", "1"]
    return subprocess.Popen(
        ["ip", "netns", "exec", name, *torchrun, *meeting, *place, *command],
        cwd=ROOT,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "eth0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_agents_train_what_one_does_though_a_worker_is_killed(tmp_path: Path, nodes: list[str]) -> None:
    """The same bits as of two ranks of one agent: tables, optimizers, early stopping."""
    wide.write(tmp_path / "data", ROWS)
    assert run_ranks(2, train_whole, config(tmp_path, "one")) == [STEPS, STEPS]
    written = tmp_path / "two.yaml"
    settings.dump(config(tmp_path, "two"), written)
    command = ["-m", "tests.training.dying", "1", str(STEP), str(written)]
    agents = [agent(number, name, *command) for number, name in enumerate(nodes)]
    try:
        said = [each.communicate(timeout=400)[0] for each in agents]
    finally:
        for each in agents:
            each.kill()
    assert [each.returncode for each in agents] == [0, 0], "\n".join(said)
    assert "exitcode: -9" in "".join(said), "a worker was killed"
    one, two = told(tmp_path / "one"), told(tmp_path / "two")
    assert one["progress"] == two["progress"] and one["progress"]["done"]
    assert one["files"] == two["files"] and len(one["files"]) == 2
