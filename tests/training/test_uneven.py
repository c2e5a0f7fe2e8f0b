"""Several epochs over ranks that have unequal rows, or none, end, and train on each row."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from recsys.config import Config
from recsys.data.fit import fit
from recsys.data.pieces import Dealt, blocks, row_groups
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.model.ranker import DenseArch
from recsys.predict import predict
from recsys.tables.checkpoint import Progress
from recsys.train import Loop, build, train
from tests import live, tiny
from tests.plain import Plain
from tests.ranks import run_ranks

State = dict[str, Tensor]


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
    none = alternate(tiny.write(tmp_path / "none", {"train": 3, "valid": 3, "test": 1}))
    configs = [
        tiny.config(none, tmp_path / "runs" / "none", train=settings),
        tiny.config(few, tmp_path / "runs" / "few", train=settings),
        tiny.config(few, tmp_path / "runs" / "one", train={**settings, "batch_size": 1, "evals_per_epoch": 5}),
        tiny.config(odd, tmp_path / "runs" / "odd", train={**settings, "keep_negatives": 0.1}),
    ]
    # The largest share of 3 rows is 1, and of 4 ranks one has none; that of 4 rows is 2 or 1; that of 33 positives and
    # a tenth of 34 negatives is 12 or 9.
    expected = [3, 3, 3 * (2 if world_size == 3 else 1), 3 * 2]
    for done in run_ranks(world_size, train_all, configs):
        assert [each.step for each in done] == expected
        assert all(each.done and each.epoch == 3 for each in done)
    for name, rows in (("none", 1), ("few", 1), ("one", 1), ("odd", 2)):
        assert pq.read_table(tmp_path / "runs" / name / "scores" / "test").num_rows == rows


def train_from(config: Config, tables: dict[str, Tensor], dense: dict[str, Tensor]) -> tuple[live.Shards, State]:
    with process_group() as ranks:
        encoder = fit(config)
        sharded = build(config, encoder, ranks)
        live.fill(sharded, tables, dense)
        loop = Loop(config, encoder, sharded, ranks)
        loop.stretch(Progress(), loop.reader.steps)
        return live.shards(sharded)


def test_ranks_without_rows_leave_the_others_their_step(tmp_path: Path) -> None:
    """Two rows, in a row group each, on four ranks of 8 rows: a step of plain PyTorch on one batch of 32 rows."""
    path = alternate(tiny.write(tmp_path / "data", {"train": 2, "valid": 2, "test": 1}))
    settings = {"batch_size": 8, "epochs": 1, "hide_ids": 0.0, "decay": "constant"}
    made = tiny.config(path, tmp_path / "run", train=settings)
    encoder = fit(made)
    spec = encoder.spec
    torch.manual_seed(7)
    tables = {each.name: torch.randn(each.capacity, 8) * 0.1 for each in [spec.item, *spec.single, *spec.multi]}
    plain = Plain(DenseArch(spec, made.model), tables, made.train)
    dense = plain.dense.state_dict()
    results = run_ranks(4, train_from, made, tables, {name: value.clone() for name, value in dense.items()})
    [batch] = Reader(encoder, "train", 32).epoch()
    assert not blocks(row_groups(split_files(path, "train")), Dealt(4, 8, 0), 0), "the first rank has no rows"
    plain.step([batch])
    trained = live.whole([shards for shards, _ in results])
    for name, table in plain.tables.items():
        torch.testing.assert_close(trained[name], table.detach(), atol=1e-6, rtol=1e-5)
    for name, parameter in plain.dense.named_parameters():
        if name != "attention.score.bias":  # a softmax is blind to it: its gradient is rounding alone
            torch.testing.assert_close(results[0][1][name], parameter.detach(), atol=1e-5, rtol=1e-4)
