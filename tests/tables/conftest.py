"""What the tests of tables share."""

from pathlib import Path

import pytest

from tests import tiny
from tests.ranks import run_ranks
from tests.tables.saved import save_and_export


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, and for each sharding a run and its export by 2 ranks."""
    home = tmp_path_factory.mktemp("home")
    tiny.write(home / "data")
    run_ranks(2, save_and_export, home)
    return home
