"""What the tests of the simulator share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ranks import run_ranks
from tests.simulator import models, simulations


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model."""
    return models.folder(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run, and simulated interactions of its new items (`tests.simulator.simulations`)."""
    home = tmp_path_factory.mktemp("simulated")
    run_ranks(1, simulations.make, home)
    return home


@pytest.fixture
def here(simulated: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it of the test's own, which the test is in."""
    home = shutil.copytree(simulated, tmp_path / "home")
    with simulations.inside(home):
        yield home
