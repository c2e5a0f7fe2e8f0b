"""Every rival finds a planted signal and scores every row; the base goes through the real commands."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys.errors import InputError
from recsys.evaluate.scores import read_rows, read_scores
from recsys.rivals import base, deepfm, trees
from recsys.rivals.bench import TRAIN, Bench
from recsys.rivals.grids import DEFAULTS
from recsys.rivals.rows import write_scores
from recsys.trials.space import Params
from tests import tiny
from tests.rivals import planted

SMALL: dict[str, Params] = {
    "trees": {"min_data_in_leaf": 10},
    "deepfm": {"batch_size": 64, "optimizer": ["adam", 0.01]},
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("rivals")
    return Bench(tiny.config(planted.write(folder / "data"), folder / "run"))


@pytest.mark.parametrize("system", sorted(TRAIN))
def test_finds_the_signal(bench: Bench, tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepfm, "MOST_EPOCHS", 6)
    monkeypatch.setattr(trees, "MOST_ROUNDS", 60)
    fitted = TRAIN[system](bench, {**DEFAULTS[system], **SMALL.get(system, {})}, 0)
    path = write_scores(tmp_path / "test.parquet", fitted.scores("test"))
    rows = read_rows(Path(bench.config.data.path), "test")
    scores = read_scores(path, len(rows.label), "test")
    assert fitted.valid_auc > 0.75
    assert roc_auc_score(rows.label, scores) > 0.7
    valid = np.concatenate([probability for _, probability in fitted.scores("valid")])
    labels = read_rows(Path(bench.config.data.path), "valid").label
    assert roc_auc_score(labels, valid) == pytest.approx(fitted.valid_auc, abs=1e-6)


@pytest.mark.parametrize("native", ["none", "all"])
def test_trees_with_and_without_native_categories(bench: Bench, native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MOST_ROUNDS", 20)
    params = {**DEFAULTS["trees"], "native": native, "min_data_in_leaf": 10}
    assert trees.train(bench.tabular, *bench.tables, params, 0).valid_auc > 0.75


@pytest.mark.parametrize("off", ["history_weight", "numbers_weight"])
def test_linear_without_a_part(bench: Bench, off: str) -> None:
    assert TRAIN["linear"](bench, {**DEFAULTS["linear"], off: 0.0}, 0).valid_auc > 0.75


def test_the_base_by_the_real_commands(bench: Bench, tmp_path: Path) -> None:
    params = {"model.dim": 4, "train.lr": 0.01, "train.table_weight_decay": 1e-6}
    fitted = base.train(bench.config, params, tmp_path / "base", ranks=1)
    assert 0.3 < fitted.valid_auc < 1.0
    path = write_scores(tmp_path / "test.parquet", fitted.scores("test"))
    rows = read_rows(Path(bench.config.data.path), "test")
    assert len(read_scores(path, len(rows.label), "test")) == planted.ROWS["test"]


def test_a_failed_command_names_its_log(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(InputError, match=r"train\.log"):
        base.train(bench.config, {}, tmp_path / "base", ranks=1)
