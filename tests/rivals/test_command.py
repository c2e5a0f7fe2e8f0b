"""The command hands over what it was told and prints the table."""

from pathlib import Path
from typing import Any

import pytest

from recsys.config import Config
from tools import rivals


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    called: list[Any] = []

    def compare(config: Config, *rest: Any) -> None:
        called.extend([config.train.lr, *rest])
        (tmp_path / "rivals").mkdir()
        (tmp_path / "rivals" / "table.md").write_text("| system |\n")

    monkeypatch.setattr(rivals, "compare", compare)
    given = tmp_path / "config.yaml"
    given.write_text(f"run: {tmp_path}\n")
    rivals.main(
        [str(given), "--budget", "3", "--seeds", "0", "4", "--rivals", "means", "trees", "--ranks", "1", "train.lr=0.5"]
    )
    assert called == [0.5, 3, [0, 4], 1, ("means", "trees")]
    out = capsys.readouterr().out
    assert "| system |" in out
    assert out.endswith(f"results: {tmp_path}/rivals/results.json\n")
