"""A run that begins from another's model: every old row, sum and dense weight as it was, new ids behind them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Config
from recsys.daily import configs
from recsys.daily.start import Started, start
from recsys.data import days
from recsys.data.compose import compose
from recsys.data.encode import Encoder
from recsys.data.ids import IdMap
from recsys.data.schema import read_info
from recsys.distributed import on_first, process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, log
from recsys.tables.admit import admit
from recsys.tables.diff import diff
from recsys.tables.sharding import table_of
from recsys.tables.stored import DENSE, ROWS, StoredTensor, tensors
from recsys.train import train
from tests.daily import logs
from tests.ranks import run_ranks

MODEL = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4, "spare": 0.0}


def train_and_start(first: Config, then: Config) -> Started:
    with process_group() as ranks:
        train(first, ranks)
        on_first(ranks, lambda: admit(first, Path(first.run).parent / "new.parquet"))
        return start(then, first, ranks)


@pytest.mark.parametrize(("sharding", "world"), [("row_wise", 2), ("data_parallel", 1)])
def test_old_rows_stay_and_new_ones_begin_as_the_unknown_one(tmp_path: Path, sharding: str, world: int) -> None:
    logs.write(tmp_path / "log", days=6)
    features = [
        {"name": "user_id", "of": "user", "sharding": sharding},
        {"name": "device", "capacity": 5},
    ]
    made = logs.config(tmp_path, "run", features=features, item_sharding="row_wise", model=MODEL)
    made = replace(made, train=replace(made.train, epochs=1))
    every = days.prepare(made.data)
    first, then = configs.first(made, every[1]), configs.of_day(made, every[5])
    compose(Path(first.data.path), [day.path for day in every[:2]])
    compose(Path(then.data.path), [every[5].path])
    pq.write_table(pa.table({"item_id": ["i99"]}), Path(made.run) / "new.parquet")
    told = run_ranks(world, train_and_start, first, then)[0]

    old, new = (checkpoint.best(Path(each.run) / "checkpoints") for each in (first, then))
    was, now = (Encoder.load(each, Path(each.run) / "encoder") for each in (first, then))
    assert was.lineage == now.lineage
    assert checkpoint.version_of(new) == checkpoint.version_of(old)
    assert told.version == checkpoint.version_of(old).name and log.newest(Path(then.run)) == 1
    with pytest.raises(InputError, match="table item_id has grown"):
        diff(Path(then.run), old, new, tmp_path / "difference")
    for name, source in ((name, StoredTensor(old, name)) for name in checkpoint.stored_tensors(old)):
        found, table = StoredTensor(new, name).whole(), table_of(name)
        if table is None:
            assert torch.equal(found, source.whole())
            continue
        kept, ids = len(was.maps[table].ids) + 1, now.maps[table].ids
        assert torch.equal(found[:kept], source.whole()[:kept])
        assert ids[: kept - 1] == was.maps[table].ids and len(found) == now.maps[table].capacity
        sums = StoredTensor(new, table, ROWS).whole()
        assert torch.equal(sums[:kept], StoredTensor(old, table, ROWS).whole()[:kept]) and sums[:kept].any()
        assert not sums[kept:].any()
        if table != "device":
            assert len(ids) > kept and torch.equal(
                found[kept : len(ids) + 1], found[:1].expand(len(ids) + 1 - kept, -1)
            )
    assert all(
        torch.equal(
            StoredTensor(new, name.removeprefix(DENSE), DENSE).whole(),
            StoredTensor(old, name.removeprefix(DENSE), DENSE).whole(),
        )
        for name in tensors(old)
        if name.startswith(DENSE)
    )
    assert told.admitted["device"].capacity == 5 and told.admitted["device"].unknown == 4
    items = told.admitted["item_id"]
    assert items.new > 0 and items.unknown == 0 and items.capacity > was.maps["item_id"].capacity
    trained = now.maps["item_id"].counts.sum() - was.maps["item_id"].counts.sum()
    assert trained == read_info(then.data.path).counts["train"]


def test_a_map_grows_in_sorted_order_and_counts() -> None:
    ids = IdMap("x", pa.array(["b", None, "d"]), np.array([5, 0, 1]), 6)
    grown = ids.grow(pa.array(["z", "a", "b"]), np.array([1, 2, 3]), None)
    assert grown.ids.to_pylist() == ["b", None, "d", "a", "z"] and grown.counts.tolist() == [8, 0, 1, 2, 1]
    full = grown.grow(pa.array(["k", "l"]), np.array([1, 1]), None)
    assert full.ids.to_pylist() == ["b", "k", "d", "a", "z"] and full.capacity == 6 and full.counts.sum() == 13
    roomy = grown.grow(pa.array(["l", "k"]), np.array([1, 4]), 2.0)
    assert roomy.ids.to_pylist() == ["b", None, "d", "a", "z", "k", "l"] and roomy.counts[5] == 4
    assert roomy.capacity == 5 + 2 + 1 + 12


def test_a_log_that_follows_another_counts_on(tmp_path: Path) -> None:
    log.follow(tmp_path, 0)
    assert not log.folder_of(tmp_path).exists()
    log.follow(tmp_path, 7)
    assert log.newest(tmp_path) == 7 and log.pending(tmp_path, 7) == []
    with pytest.raises(InputError, match="expected delta 7 next"):
        log.pending(tmp_path, 6)
