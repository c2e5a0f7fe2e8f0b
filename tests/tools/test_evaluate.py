from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.evaluate import results
from tests.evaluate import tiny
from tools import evaluate


def test_the_command_judges_prints_and_merges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = tiny.dataset(tmp_path / "data")["label"]
    score = (0.3 + 0.4 * label).astype(np.float32)
    mine = tiny.predictions(tmp_path / "mine.parquet", score)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run: {tmp_path}/run\ndata: {{path: {tmp_path}/data}}\nevaluate: {{min_rows: 100, min_users: 10}}"
    )
    switches = ["--scores", f"base={mine}", "--scores", str(mine)]
    evaluate.main([str(config), *switches, "evaluate.replicates=5"])
    out = capsys.readouterr().out
    assert "mine - base, paired" in out
    assert out.endswith(f"results: {tmp_path}/run/results.json\n")
    assert list((tmp_path / "run" / "logs" / "evaluate").iterdir())

    evaluate.main([str(config), "--scores", str(mine), "--exposure", "8", "evaluate.replicates=5"])
    merged = results.read(tmp_path / "run" / "results.json")["systems"]
    assert set(merged) == {"base", "mine"}
    assert {"all", "n=0", "n=8", "n=8/warm"} <= set(merged["mine"])
    assert merged["mine"]["n=8"]["auc"] == [1.0, 1.0, 1.0]

    with pytest.raises(InputError, match="no such predictions"):
        evaluate.main([str(config)])
