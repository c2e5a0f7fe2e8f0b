"""What the tests of stage 1 share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.proxy import runs, slotted
from tests.ranks import run_ranks


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny dataset and a run on it."""
    home = tmp_path_factory.mktemp("proxy")
    tiny.write(home / "data")
    run_ranks(1, runs.save, home)
    return home


@pytest.fixture(scope="session")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ranker with proxies, and all that it comes from (`tests.proxy.slotted`)."""
    home = tmp_path_factory.mktemp("slots")
    run_ranks(1, slotted.make, home)
    return home


@pytest.fixture
def here(slots: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it of the test's own, which the test is in."""
    home = shutil.copytree(slots, tmp_path / "home")
    with slotted.inside(home):
        yield home
