from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from recsys.data.schema import read_info, write_info
from recsys.errors import InputError
from recsys.evaluate import pointwise
from recsys.evaluate.bootstrap import METRICS
from recsys.evaluate.results import metrics_of
from tests.evaluate import tiny


def noisy(label: NDArray[Any], noise: float, seed: int = 0) -> NDArray[np.float32]:
    score = 0.25 + 0.5 * label + np.random.default_rng(seed).normal(0, noise, len(label))
    return np.clip(score, 0.01, 0.99).astype(np.float32)


def test_two_systems_from_files_to_results(tmp_path: Path) -> None:
    test = tiny.dataset(tmp_path / "data")
    label = test["label"]
    good, poor = noisy(label, 0.3), noisy(label, 0.9)
    paths = {
        "base": tiny.predictions(tmp_path / "base.parquet", poor),
        "other/variant": tiny.predictions(tmp_path / "other.parquet", good),
    }
    found = pointwise.evaluate(tiny.config(tmp_path / "data", tmp_path / "run"), paths)

    assert (found["dataset"], found["split"], found["seeds"]) == ("tiny", "exposure/user/test", [3])
    assert set(found["systems"]) == {"base", "other/variant"}
    for name, score in (("base", poor), ("other/variant", good)):
        segment = found["systems"][name]["all"]
        assert list(segment) == [*METRICS, "rows", "users"]
        assert (segment["rows"], segment["users"]) == (tiny.ROWS, tiny.USERS)
        assert all(low <= high for _, low, high in metrics_of(segment).values())
        assert segment["auc"][0] == pytest.approx(roc_auc_score(label, score))
        assert segment["logloss"][0] == pytest.approx(log_loss(label, score), rel=1e-6)
        assert segment["calibration"][0] == pytest.approx(score.sum() / label.sum(), rel=1e-6)
        cold = np.isin(test["item_id"], tiny.NEW)
        scored = np.isin(test["item_id"], tiny.NEW[:3])
        assert found["systems"][name]["cold"]["auc"][0] == pytest.approx(roc_auc_score(label[cold], score[cold]))
        assert found["systems"][name]["n=0"]["rows"] == scored.sum()

    change = found["differences"]["other/variant - base"]["all"]["auc"]
    values = [found["systems"][name]["all"]["auc"][0] for name in ("other/variant", "base")]
    assert change[0] == values[0] - values[1] and change[1] > 0
    assert sum(rows for rows, _, _ in found["reliability"]["base"]["all"]) == tiny.ROWS
    assert found["seconds"]["evaluate"] >= 0


def test_a_system_against_its_copy_is_exactly_zero_in_every_segment(tmp_path: Path) -> None:
    label = tiny.dataset(tmp_path / "data")["label"]
    first = tiny.predictions(tmp_path / "a.parquet", noisy(label, 0.5))
    order = np.random.default_rng(0).permutation(len(label))
    second = tiny.predictions(tmp_path / "b.parquet", noisy(label, 0.5)[order], order)
    found = pointwise.evaluate(
        tiny.config(tmp_path / "data", tmp_path / "run"), {"a": first, "b": second}, baseline="a"
    )
    segments = found["differences"]["b - a"]
    assert segments["100+"].keys() == {"rows", "users"}
    measured = [triple for entry in segments.values() for triple in metrics_of(entry).values()]
    assert len(measured) >= 5 * len(METRICS)
    assert all(triple == [0.0, 0.0, 0.0] for triple in measured)


def test_a_segment_with_too_few_rows_or_users_keeps_its_counts_only(tmp_path: Path) -> None:
    label = tiny.dataset(tmp_path / "data")["label"]
    scores = {"base": tiny.predictions(tmp_path / "base.parquet", noisy(label, 0.5))}
    few_rows = tiny.config(tmp_path / "data", tmp_path / "run", min_rows=tiny.ROWS)
    found = pointwise.evaluate(few_rows, scores)["systems"]["base"]
    assert "auc" in found["all"]
    assert found["20-99"] == {"rows": 0, "users": 0}
    assert found["warm"].keys() == {"rows", "users"} and 0 < found["warm"]["rows"] < tiny.ROWS
    few_users = tiny.config(tmp_path / "data", tmp_path / "run", min_users=tiny.USERS + 1)
    assert pointwise.evaluate(few_users, scores)["systems"]["base"]["all"] == {"rows": tiny.ROWS, "users": tiny.USERS}


def test_the_default_is_the_runs_own_scores(tmp_path: Path) -> None:
    label = tiny.dataset(tmp_path / "data", "temporal")["label"]
    tiny.predictions(tmp_path / "run" / "scores" / "test" / "part-0.parquet", noisy(label, 0.5))
    found = pointwise.evaluate(tiny.config(tmp_path / "data", tmp_path / "run"))
    assert list(found["systems"]) == ["base"]
    assert found["differences"] == {}
    assert found["systems"]["base"]["0"] == found["systems"]["base"]["cold"]


def test_users_with_one_class_are_counted_as_left_out(tmp_path: Path) -> None:
    test = tiny.dataset(tmp_path / "data")
    scores = {"base": tiny.predictions(tmp_path / "base.parquet", noisy(test["label"], 0.5))}
    found = pointwise.evaluate(tiny.config(tmp_path / "data", tmp_path / "run"), scores)
    cold = np.isin(test["item_id"], tiny.NEW)
    mixed = [len(np.unique(test["label"][cold & (test["user_id"] == user)])) for user in range(tiny.USERS)]
    assert found["systems"]["base"]["cold"]["users"] == mixed.count(2)
    assert found["users_left_out"]["cold"] == mixed.count(1)


def test_an_unknown_baseline_is_named(tmp_path: Path) -> None:
    label = tiny.dataset(tmp_path / "data")["label"]
    scores = {"mine": tiny.predictions(tmp_path / "base.parquet", noisy(label, 0.5))}
    with pytest.raises(InputError, match="baseline 'base': expected one of the systems judged: mine"):
        pointwise.evaluate(tiny.config(tmp_path / "data", tmp_path / "run"), scores, baseline="base")


def test_what_there_is_not_is_refused(tmp_path: Path) -> None:
    test = tiny.dataset(tmp_path / "data")
    scores = {"base": tiny.predictions(tmp_path / "base.parquet", noisy(test["label"], 0.3))}
    config = tiny.config(tmp_path / "data", tmp_path / "run")
    write_info(replace(read_info(tmp_path / "data"), exposures=[0, 2, 8]), tmp_path / "data")
    with pytest.raises(InputError, match=r"exposure=9: .* kept 8 rows"):
        pointwise.evaluate(config, scores, exposure=9)
    with pytest.raises(InputError, match="segment 'hot': expected one of all, warm"):
        pointwise.evaluate(config, scores, only=["hot"])
    assert list(pointwise.evaluate(config, scores, only=["warm"])["systems"]["base"]) == ["warm"]
