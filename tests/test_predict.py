"""Scores by row id: the same on one rank, on two, and in plain PyTorch, with ids nobody knows among them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed.checkpoint as dcp
from sklearn.metrics import log_loss, roc_auc_score

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.reader import Reader
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.model.ranker import DenseArch
from recsys.predict import predict
from recsys.score import score
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.train import build, train, validate
from tests import wide
from tests.plain import Plain
from tests.ranks import run_ranks

Scores = dict[int, float]


def config(home: Path, sharding: str) -> Config:
    features = [each if each.get("kind") == "dense" else {**each, "sharding": sharding} for each in wide.FEATURES]
    train = {"batch_size": 16, "shuffle_rows": 64, "epochs": 2, "hide_ids": 0.2, "table_lr": 0.3, "lr": 0.02}
    return wide.config(home / "data", home / "run", features=features, item_sharding=sharding, train=train)


def train_and_predict(config: Config) -> tuple[Progress, float, float]:
    """Progress, and AUC and NE of the best checkpoint on valid."""
    with process_group() as ranks:
        progress = train(config, ranks)
        for split in ("test", "valid"):
            predict(config, split, ranks)
        encoder = Encoder.load(config, Path(config.run) / "encoder")
        sharded = build(config, encoder, ranks)
        checkpoint.load(checkpoint.best(Path(config.run) / "checkpoints"), sharded, optimizer=False)
        reader = Reader(encoder, "valid", 16, ranks.rank, ranks.world_size)
        sharded.model.train()
        found = validate(sharded, reader, ranks.device)
        again = [row_id for *_, row_id in score(sharded, reader, ranks.device)]
        assert len(again) == reader.steps and not sharded.model.training
        return progress, *found


def predict_test(config: Config) -> None:
    with process_group() as ranks:
        predict(config, "test", ranks)


def read(home: Path, split: str) -> Scores:
    table = pq.read_table(home / "run" / "scores" / split)
    assert table.schema.names == ["row_id", "score"] and [str(t) for t in table.schema.types] == ["int64", "float"]
    assert table.num_rows == len(set(table["row_id"].to_pylist()))
    return dict(zip(table["row_id"].to_pylist(), table["score"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    wide.write(folder / "data")
    return folder


Trained = tuple[list[tuple[Progress, float, float]], Scores]


@pytest.fixture(scope="module")
def trained(home: Path) -> Trained:
    """What two ranks say, and their scores of test."""
    results = run_ranks(2, train_and_predict, config(home, "row_wise"))
    assert len(list((home / "run" / "scores" / "test").iterdir())) == 2
    return results, read(home, "test")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_plain_pytorch_gives_the_same_scores(home: Path, trained: Trained) -> None:
    made = config(home, "row_wise")
    encoder = Encoder.load(made, home / "run" / "encoder")
    best = checkpoint.best(home / "run" / "checkpoints")
    state = {name: torch.empty(shape) for name, shape in checkpoint.stored_tensors(best).items()}
    dcp.load({"model": state}, checkpoint_id=best, no_dist=True)
    dense = DenseArch(encoder.spec, made.model)
    dense.load_state_dict({n.split("dense_arch.")[1]: x for n, x in state.items() if "dense_arch." in n})
    tables = {n.split(".")[-2]: x for n, x in state.items() if "dense_arch." not in n}
    plain = Plain(dense.eval(), tables, made.train)
    expected: Scores = {}
    with torch.no_grad():
        for batch in Reader(encoder, "test", 61).epoch():
            expected |= dict(zip(batch.row_id.tolist(), plain.logits(batch).sigmoid().tolist(), strict=True))
    assert trained[1].keys() == expected.keys() == set(range(61))
    assert trained[1] == pytest.approx(expected, abs=1e-6)
    assert np.std(list(expected.values())) > 0.01, "the scores differ from row to row"


def test_one_rank_and_another_sharding_give_the_same_scores(home: Path, trained: Trained) -> None:
    run_ranks(1, predict_test, config(home, "table_wise"))
    assert read(home, "test") == pytest.approx(trained[1], abs=1e-6)
    assert len(list((home / "run" / "scores" / "test").iterdir())) == 1, "no part of the other run is left"
    slow = wide.Slow(config(home, "row_wise"))
    unknown = [k for k, row in slow.encoded("test").items() if row["item_id"] == [0] or row["user_id"] == [0]]
    assert len(unknown) > 10, "ids that nobody has seen were among them"


def test_validation_is_exact(home: Path, trained: Trained) -> None:
    """AUC and normalised entropy over two ranks against sklearn on the written scores."""
    labels = np.array([row["label"] for row in wide.Slow(config(home, "row_wise")).rows("valid")])
    scores = read(home, "valid")
    p = np.array([scores[k] for k in range(len(labels))], dtype=np.float64)
    rate = labels.mean()
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    for progress, auc, ne in trained[0]:
        assert auc == progress.best_auc == pytest.approx(roc_auc_score(labels, p), abs=1e-7)
        assert ne == pytest.approx(log_loss(labels, p) / entropy, rel=1e-5)


def test_without_a_trained_run_it_says_so(home: Path, tmp_path: Path) -> None:
    made = wide.config(home / "data", tmp_path / "nothing")
    with process_group() as ranks, pytest.raises(InputError, match="train first"):
        predict(made, "test", ranks)
