import shutil
from pathlib import Path

import pytest

from tests.report import planted


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has been judged, and nothing more."""
    home = tmp_path_factory.mktemp("judged")
    planted.run(home)
    return home


@pytest.fixture(scope="session")
def reported(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after every stage, with its report."""
    home = shutil.copytree(judged, tmp_path_factory.mktemp("reported"), dirs_exist_ok=True)
    planted.stages(home)
    planted.report(home)
    return home


@pytest.fixture
def home(reported: Path, tmp_path: Path) -> Path:
    """A copy of it of the test's own."""
    return shutil.copytree(reported, tmp_path / "home")
