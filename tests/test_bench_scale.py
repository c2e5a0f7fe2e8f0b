"""The bench's rows on reading and on many rows, on few."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.bench import auc as auc_row
from recsys.bench import peak, scale
from recsys.bench import reader as reader_row
from recsys.bench.frame import Measured
from recsys.config import Config
from recsys.data.check import check
from recsys.data.schema import split_files
from recsys.distributed import process_group
from tests import tiny
from tests.ranks import run_ranks


def test_the_reader_row_reads_the_same_columns_as_both_bounds(tmp_path: Path) -> None:
    row = reader_row.compare(tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run"), rounds=2)
    assert set(row.rates) == {"ours", "pyarrow", "pyarrow, dictionaries"} and row.unit == "rows/s"
    assert row.detail["rows"] == 203 and "history" in row.detail["columns"]


def test_the_auc_row_tells_how_far_ours_is_from_sklearn() -> None:
    row = auc_row.compare(rows=5000, batch=512, rounds=1)
    assert set(row.rates) == {"ours", "sklearn"} and row.detail["apart"] < 1e-12 and row.detail["error at most"] == 0.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = scale.made(tmp_path_factory.mktemp("home"), rows_a_day=400)
    return replace(config, train=replace(config.train, batch_size=64))


def test_the_repeated_dataset_is_sound_and_takes_no_space(made: Config) -> None:
    again = scale.repeated(made, 3)
    assert check(again).counts == {split: 3 * rows for split, rows in check(made).counts.items()}
    [once], parts = (split_files(Path(config.data.path), "train") for config in (made, again))
    assert [os.path.samefile(once, part) for part in parts] == [True] * 3


def started(config: Config) -> Measured:
    with process_group() as ranks:
        return scale.compare_starts(config, 2, 2, ranks)


def test_the_start_row_starts_on_few_rows_and_on_many(made: Config) -> None:
    [row] = run_ranks(1, started, made)
    assert set(row.rates) == {"ours", "the same on 2,000 rows"} and len(row.rates["ours"]) == 2


def test_the_memory_row_trains_on_all_rows(made: Config) -> None:
    told = peak.peak_of_training(made)
    assert told["bytes"] > 1 << 26 and told["rows"] == 25 * 64
