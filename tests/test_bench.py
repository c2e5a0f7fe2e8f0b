"""The bench's frame and its first row, on a tiny dataset."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys.bench import delta as delta_row
from recsys.bench import prompt as prompt_row
from recsys.bench import rank as rank_row
from recsys.bench import rows as rows_row
from recsys.bench import slot as slot_row
from recsys.bench import train as train_row
from recsys.bench.data import make
from recsys.bench.frame import Measured, Row, bench, median_ratio
from recsys.config import Config
from recsys.data.schema import read_info
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.evaluate import ranking
from recsys.settings import load
from simulator import bench_update as update_row
from tests import tiny
from tests.backbones import walks
from tests.prompt import beside
from tests.ranks import run_ranks


def stub(config: Config, ranks: Ranks) -> Measured:
    rates = {"ours": [float(ranks.world_size)], "bare": [4.0]}
    return median_ratio(rates, unit="rows/s", required=0.5, detail={"dim": config.model.dim})


def broken(config: Config, ranks: Ranks) -> Measured:
    raise InputError("as planned")


def test_the_ratio_is_taken_within_rounds_against_the_faster_bound() -> None:
    # The machine slows down threefold over the rounds; each round still says 0.9.
    rates = {"ours": [27.0, 18.0, 9.0], "base": [30.0, 20.0, 10.0], "slow": [10.0, 10.0, 12.0]}
    row = median_ratio(rates, unit="rows/s", required=0.85, detail={})
    assert (row.ours, row.bound, row.ratio, row.bound_is) == (18.0, 20.0, 0.9, "base")


def test_rows_run_in_ranks_of_their_own_and_merge(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"other": {"ours": 1}}))
    told = bench({"stub": Row("tests.test_bench:stub", ranks=2)}, "configs/bench.yaml", ["model.dim=8"], path)
    assert told == json.loads(path.read_text())
    assert told["other"] == {"ours": 1}
    row = told["stub"]
    assert (row["ours"], row["bound"], row["ratio"], row["unit"]) == (2.0, 4.0, 0.5, "rows/s")
    assert row["detail"] == {"dim": 8} and row["machine"]["torch"]


def test_a_row_that_fails_leaves_the_file_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="broken failed"):
        bench({"broken": Row("tests.test_bench:broken", ranks=1)}, "configs/bench.yaml", [], tmp_path / "bench.json")
    assert not (tmp_path / "bench.json").exists()
    assert "as planned" in capfd.readouterr().err


def measured(home: Path) -> Measured:
    with process_group() as ranks:
        return train_row.compare(tiny.config(home / "data", home / "run"), ranks)


def test_the_train_row_measures_ours_and_both_pipelines(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data")
    rows = run_ranks(2, measured, tmp_path)
    assert rows[0].rates == rows[1].rates
    assert set(rows[0].rates) == {"ours", "TrainPipelineSparseDist", "TrainPipelineBase"}
    assert len(rows[0].rates["ours"]) == train_row.ROUNDS
    assert rows[0].ratio > 0


def test_the_rank_row_measures_the_shipped_ranking_and_the_bare_product(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    shipped = ranking.rank

    def spy(task: Any, vectors: Any, segments: Any, options: Any, sample: bool = True) -> Any:
        asked.append((list(segments), sample))
        return shipped(task, vectors, segments, options, sample)

    monkeypatch.setattr(ranking, "rank", spy)
    row = rank_row.compare(users=200, items=350)
    assert asked.count((["all"], False)) == asked.count((["all"], True)) == rank_row.ROUNDS + 1
    assert row.detail["ratio with sampled negatives"] > 0
    assert set(row.rates) == {"ours", row.bound_is} and row.unit == "users/s"
    assert all(len(rates) == rank_row.ROUNDS and min(rates) > 0 for rates in row.rates.values())


def test_the_rank_rows_lists_hold_pairs_as_often_as_said() -> None:
    task = rank_row.Ranking(users=200, items=5000).task
    assert task.masked.lengths.mean() == pytest.approx(rank_row.MASKED, rel=0.05)
    assert task.positives.lengths.mean() == pytest.approx(rank_row.POSITIVES, rel=0.1)


def rows_measured() -> tuple[Measured, Measured, Measured]:
    with process_group() as ranks:
        tables = rows_row.Tables(ranks, large=500, small=100, named=20)
        return (
            rows_row.compare(tables, tables.writes("large"), rounds=2),
            rows_row.compare(tables, tables.reads("large"), rounds=2),
            rows_row.compare_sizes(tables, rounds=2),
        )


def test_the_rows_rows_measure_ours_and_every_bare_copy() -> None:
    write, read, size = run_ranks(1, rows_measured)[0]
    assert set(write.rates) == {"ours", "table[rows] = vectors", "index_copy_", "the same by numpy"}
    assert set(read.rates) == {"ours", "table[rows]", "index_select"}
    assert set(size.rates) == {"ours", "the same on 100 rows"}
    assert len(size.detail["large/small, rows from all over"]) == len(write.rates) + len(read.rates)
    assert all(min(rates) > 0 for row in (write, read, size) for rates in row.rates.values())


def wrote() -> list[bool]:
    """Whether each contender leaves the same vectors in the rows that it is given."""
    with process_group() as ranks:
        tables = rows_row.Tables(ranks, large=500, small=100, named=20)
        same = []
        for write in tables.writes("large").values():
            tables.memory("large").zero_()
            rows = next(tables.draws(500, 1))
            write(rows)
            held = tables.memory("large")
            same.append(torch.equal(held[rows], tables.vectors) and int(held.any(1).sum()) == 20)
        return same


def test_the_rows_contenders_do_the_same() -> None:
    assert all(run_ranks(1, wrote)[0])


def test_the_bench_dataset_has_the_shape_of_movielens(tmp_path: Path) -> None:
    source = [f"data.source.{kind}.path={tmp_path}/raw/{kind}.parquet" for kind in ("interactions", "users", "items")]
    config = load("configs/bench.yaml", [f"data.path={tmp_path}/data", *source])
    make(config.data)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    make(config.data)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == written
    info = read_info(config.data.path)
    assert (info.users, info.items) == (6040, 3883)
    assert 300_000 < info.counts["train"] < 400_000


def delta_measured() -> Measured:
    with process_group() as ranks:
        return delta_row.compare(ranks, named=40, capacity=100)


def test_the_delta_row_measures_ours_and_the_reading_alone() -> None:
    row = run_ranks(1, delta_measured)[0]
    assert set(row.rates) == {"ours", "pyarrow.parquet"} and row.detail["checkpoint_rows_per_second"] > 0
    assert len(row.rates["ours"]) == delta_row.ROUNDS


def slot_measured(home: Path) -> Measured:
    with process_group() as ranks:
        return slot_row.compare(tiny.config(home / "data", home / "run"), ranks, rounds=2, steps=3, width=8)


def test_the_slot_row_measures_one_ranker_with_and_without_proxies(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data")
    [row] = run_ranks(1, slot_measured, tmp_path)
    assert set(row.rates) == {"ours", "without proxies"} and len(row.rates["ours"]) == 2
    assert 1 < row.detail["distinct items"] <= tiny.ITEMS < row.detail["positions"]


def updated() -> Measured:
    with process_group() as ranks:
        return update_row.compare(ranks, large=400, small=100, cold=10, rounds=1)


def test_the_update_row_does_the_same_in_both_tables_and_tells_the_parts() -> None:
    [row] = run_ranks(1, updated)
    assert set(row.rates) == {"ours", "the same in 100 rows"} and row.unit == "rows/s"
    assert row.detail["passes, 400 rows"] == row.detail["passes, 100 rows"]
    parts = {"optimise", "delta", "write", "once: item map", "once: prior", "once: checkpoint"}
    assert set(row.detail["seconds, 400 rows"]) == set(row.detail["seconds, 100 rows"]) == parts


def test_the_prompt_row_trains_a_network_and_its_base_on_the_same_positives(tmp_path: Path) -> None:
    config = beside.config(walks.write(tmp_path / "data", walks.rows()), tmp_path / "run", "sasrec")
    row = prompt_row.compare(config, beside.ALONE, rounds=2)
    assert set(row.rates) == {"ours", "the base"} and row.unit == "positives/s"
    windows, positives = row.detail["windows a step of the base"], row.detail["positives a step"]
    assert 1 < windows < positives == 128 and row.detail["tuned"] > row.detail["item_bytes"] * walks.ITEMS / 4
    assert row.detail["item_bytes"] == 4 * config.prompt.model.code
