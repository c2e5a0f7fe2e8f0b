"""Several epochs over ranks that have unequal rows, or none, end, and train on each row."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.predict import predict
from recsys.tables.checkpoint import Progress
from recsys.train import train
from tests import tiny
from tests.ranks import run_ranks


def train_all(configs: list[Config]) -> list[Progress]:
    with process_group() as ranks:
        done = [train(config, ranks) for config in configs]
        for config in configs:
            predict(config, "test", ranks)
        return done


def alternate(path: Path) -> Path:
    """Both labels in every split, however small."""
    for split in ("train", "valid", "test"):
        for file in split_files(path, split):
            with pq.ParquetFile(file) as opened:
                table = opened.read()
            values: list[Any] = [k % 2 for k in range(table.num_rows)]
            at = table.column_names.index("label")
            pq.write_table(table.set_column(at, "label", pa.array(values, pa.int8())), file, row_group_size=10)
    return path


@pytest.mark.parametrize("world_size", [3, 4])
def test_ranks_with_fewer_rows_or_none_go_through_all_epochs(tmp_path: Path, world_size: int) -> None:
    few = alternate(tiny.write(tmp_path / "few", {"train": 4, "valid": 4, "test": 1}))
    odd = alternate(tiny.write(tmp_path / "odd", {"train": 67, "valid": 9, "test": 2}))
    settings = {"batch_size": 8, "epochs": 3, "patience": 99, "hide_ids": 0.0}
    configs = [
        tiny.config(few, tmp_path / "runs" / "few", train=settings),
        tiny.config(few, tmp_path / "runs" / "one", train={**settings, "batch_size": 1, "evals_per_epoch": 5}),
        tiny.config(odd, tmp_path / "runs" / "odd", train={**settings, "keep_negatives": 0.1}),
    ]
    # The largest share of 4 rows is 2 or 1; of 33 positives and a tenth of 34 negatives, 12 or 9.
    expected = [3, 3 * (2 if world_size == 3 else 1), 3 * 2]
    for done in run_ranks(world_size, train_all, configs):
        assert [each.step for each in done] == expected
        assert all(each.done and each.epoch == 3 for each in done)
    for name, rows in (("few", 1), ("one", 1), ("odd", 2)):
        assert pq.read_table(tmp_path / "runs" / name / "scores" / "test").num_rows == rows
