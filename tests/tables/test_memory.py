"""The memory told before anything is allocated, against what the ranks hold once it is."""

from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from recsys import settings
from recsys.config import Config
from recsys.data.fit import fit
from recsys.distributed import process_group
from recsys.tables.memory import Bytes, needs
from recsys.train import build
from tests import live, wide
from tests.ranks import run_ranks
from tests.tables.test_sharding import config, ranks_of
from tools import train

FP16 = {"dim": 8, "table_dtype": "fp16", "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4}


def told_and_held(made: Config) -> tuple[list[Bytes], Bytes]:
    """What is told of all ranks, and what this one holds after building."""
    with process_group() as ranks:
        encoder = fit(made)
        told = needs(encoder.spec, made, ranks).ranks
        sharded = build(made, encoder, ranks)
        sharded.dense_optimizer.init_state()
        shards, _ = live.shards(sharded)
        dense = list(sharded.model.module.ranker.dense_arch.parameters())
        moments = [
            value
            for parameter in sharded.dense_optimizer.params.values()
            for name, value in sharded.dense_optimizer.state[parameter].items()
            if name != "step"
        ]
        return told, Bytes(
            weights=sum(values.nbytes for _, _, values in shards),
            state=sum(values.nbytes for pieces in live.sums(sharded).values() for _, values in pieces),
            dense=sum(tensor.nbytes for tensor in [*dense, *moments]),
        )


@pytest.mark.parametrize("sharding", ["row_wise", "column_wise", "data_parallel", "mixed", "hosts", "fp16"])
def test_what_is_told_is_what_is_held(tmp_path: Path, sharding: str) -> None:
    made = config(wide.write(tmp_path / "data"), "column_wise" if sharding == "fp16" else sharding)
    if sharding == "fp16":
        made = settings.parse({**settings.plain(made), "model": FP16})
    world_size, local = ranks_of(sharding)
    results = run_ranks(world_size, told_and_held, made, local_world_size=local)
    told = results[0][0]
    for need, (_, held) in zip(told, results, strict=True):
        assert (need.weights, need.state, need.dense) == (held.weights, held.state, held.dense)
        assert need.planned > need.weights + need.state
    assert sum(need.weights for need in told) > 0


def printed(arguments: list[str]) -> str:
    with redirect_stdout(StringIO()) as out:
        train.main(arguments)
    return out.getvalue()


def test_the_plan_is_printed_once_and_leaves_no_file(tmp_path: Path) -> None:
    made = config(wide.write(tmp_path / "data"), "row_wise")
    path = tmp_path / "config.yaml"
    settings.dump(made, path)
    fit(made)  # what it finds is kept beside the rows
    before = set(tmp_path.rglob("*"))
    first, second = run_ranks(2, printed, [str(path), "--plan"])
    assert second == "" and set(tmp_path.rglob("*")) == before
    assert "item_id" in first and "row_wise" in first and "float32" in first and "fused" in first
    rows = fit(made).spec.item.capacity
    assert f"0: {-(-rows // 2)} x 8" in first


def test_the_plan_is_that_of_the_runs_own_tables(tmp_path: Path) -> None:
    made = config(wide.write(tmp_path / "data"), "row_wise")
    path = tmp_path / "config.yaml"
    settings.dump(made, path)
    fit(replace(made, item_capacity=1234)).save(Path(made.run) / "encoder")
    assert "1,234" in run_ranks(1, printed, [str(path), "--plan"])[0]
