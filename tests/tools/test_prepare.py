from pathlib import Path

import numpy as np
import pytest

from tools import prepare


def test_prepare_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    rows = [f"{draw.integers(9)},{draw.integers(30)},{second},{draw.integers(2)}" for second in range(600)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,label", *rows]))
    (tmp_path / "config.yaml").write_text(
        "data: {source: {kind: files}, label: {rule: column}, split: {rule: temporal}}"
    )
    command = [
        str(tmp_path / "config.yaml"),
        f"data.path={tmp_path / 'data'}",
        f"data.source.interactions.path={tmp_path / 'log.csv'}",
    ]
    prepare.main(command)
    first = capsys.readouterr().out
    assert "log, split temporal, seed 0: 9 users, 30 items; rows: train 480, valid 60, test 60" in first
    prepare.main(command)
    assert "already made from this config and source" in capsys.readouterr().out
