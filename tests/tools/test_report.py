from pathlib import Path

import pytest

from tests.evaluate import tiny
from tools import evaluate, report


def test_the_command_draws_what_has_been_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = tiny.dataset(tmp_path / "data")["label"]
    for name, shift in (("base", 0.1), ("mine", 0.3)):
        tiny.predictions(tmp_path / f"{name}.parquet", 0.3 + shift * label)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run: {tmp_path}/run\ndata: {{path: {tmp_path}/data}}\n"
        "evaluate: {min_rows: 100, min_users: 10, replicates: 5}"
    )
    scores = [word for name in ("base", "mine") for word in ("--scores", f"{name}={tmp_path}/{name}.parquet")]
    evaluate.main([str(config), *scores])
    capsys.readouterr()
    report.main([str(config), "evaluate.seed=1", *scores, "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out == f"report: {tmp_path}/out/report.html\n"
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"python -m tools.evaluate {config} evaluate.seed=1 --scores" in page
    assert "not run: The funnel of simulated users" in page
