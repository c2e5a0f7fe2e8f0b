"""Trained on a tenth of the negatives, the probabilities are still those of all rows, predicted and exported alike."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.predict import predict
from recsys.tables.bundle import Bundle
from recsys.tables.export import export
from recsys.tables.probe import raw_rows
from recsys.train import train
from tests import tiny
from tests.ranks import run_ranks

RATES = {"phone": 0.3, "web": 0.04, None: 0.12}
SHARE = 0.1


def planted(path: Path) -> Path:
    """Labels whose rate depends on the device alone."""
    for split in ("train", "valid", "test"):
        for k, file in enumerate(split_files(path, split)):
            with pq.ParquetFile(file) as opened:
                table = opened.read()
            chance = np.array([RATES[device] for device in table["device"].to_pylist()])
            label = pa.array(np.random.default_rng([k, len(split)]).random(len(chance)) < chance).cast(pa.int8())
            at = table.column_names.index("label")
            pq.write_table(table.set_column(at, "label", label), file, row_group_size=100)
    return path


def train_predict_export(made: Config) -> None:
    with process_group() as ranks:
        train(made, ranks)
        predict(made, "test", ranks)
        export(made, ranks)


def test_probabilities_are_those_of_all_rows(tmp_path: Path) -> None:
    path = planted(tiny.write(tmp_path / "data", {"train": 12000, "valid": 500, "test": 600}))
    made = tiny.config(
        path,
        tmp_path / "run",
        features=[{"name": "device", "of": "context"}],
        model={"dim": 8, "top": [16], "cross_rank": 8, "history": False},
        train={"batch_size": 16, "epochs": 1, "evals_per_epoch": 1, "hide_ids": 0.0, "keep_negatives": SHARE},
    )
    run_ranks(1, train_predict_export, made)
    scores = pq.read_table(tmp_path / "run" / "scores" / "test").sort_by("row_id")["score"].to_numpy()
    rows = pa.concat_tables(raw_rows(made, Encoder.load(made, tmp_path / "run" / "encoder"), "test", 10**6))
    devices = np.array(rows["device"].to_pylist(), dtype=object)
    for device, rate in RATES.items():
        mean = scores[devices == device].mean()
        kept = rate / (rate + SHARE * (1 - rate))
        assert mean == pytest.approx(rate, abs=0.03), device
        assert abs(mean - kept) > 0.15, "which is far from the rate among the rows that were trained on"
    np.testing.assert_allclose(Bundle.load(tmp_path / "run" / "export").score(rows).numpy(), scores, atol=1e-6)
