"""What the tests of stage 1 share."""

from pathlib import Path

import pytest

from tests import tiny
from tests.proxy import runs
from tests.ranks import run_ranks


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny dataset and a run on it."""
    home = tmp_path_factory.mktemp("proxy")
    tiny.write(home / "data")
    run_ranks(1, runs.save, home)
    return home
