from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.evaluate import results
from tests.evaluate import likes, tiny
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


def test_rankings_join_what_pointwise_wrote_of_the_same_system(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = likes.random_rows()
    likes.write(tmp_path / "data", splits, likes.COLD)
    folder = likes.vectors(tmp_path / "vectors", *likes.drawn(0))
    label = np.array([label for _, _, label in splits["test"]])
    scores = tiny.predictions(tmp_path / "scores.parquet", np.random.default_rng(0).random(len(label)))
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run: {tmp_path}/run\ndata: {{path: {tmp_path}/data}}\n"
        "evaluate: {min_rows: 5, min_users: 2, replicates: 5, negatives: 4, sampled_k: [2], top_k: [3]}"
    )
    evaluate.main([str(config), "--scores", f"base={scores}"])
    capsys.readouterr()
    evaluate.main([str(config), "--vectors", f"base={folder}", "--vectors", f"same={folder}"])
    out = capsys.readouterr().out
    assert "candidates: all 30, warm 15, cold 15" in out
    assert "same - base, paired" in out and "+0.0000" in out
    merged = results.read(tmp_path / "run" / "results.json")
    assert set(merged["systems"]["base"]["cold"]) >= {"auc", "rows", "recall@3", "ndcg@3", "hitrate@2/4", "ndcg@2/4"}
    assert merged["differences"]["same - base"]["all"]["recall@3"] == [0.0, 0.0, 0.0]

    with pytest.raises(SystemExit):
        evaluate.main([str(config), "--vectors", str(folder), "--scores", str(scores)])
    assert "--vectors goes without --scores" in capsys.readouterr().err
