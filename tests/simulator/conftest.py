"""What the tests of the simulator share."""

from pathlib import Path

import pytest

from tests.simulator import models


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model."""
    return models.folder(tmp_path_factory.mktemp("judge"))
