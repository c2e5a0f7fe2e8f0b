"""Training on two ranks under every sharding against plain PyTorch on one process."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.distributed import process_group
from recsys.model.ranker import DenseArch
from recsys.train import build
from tests import live, wide
from tests.plain import Plain
from tests.ranks import run_ranks

EPOCHS, STEPS = 3, 7  # 21 steps of 203 rows on 2 ranks: each epoch ends in padding


MIXED = {
    "item_id": "row_wise",
    "user_id": "row_wise",
    "genres": "table_wise",
    "tags": "row_wise",
    "gender": "table_wise",
}
"""A plan with every sharding, lists of values in two of them; tables not named are column-wise."""


def sharding_of(table: str, sharding: str) -> str:
    return MIXED.get(table, "column_wise") if sharding == "mixed" else sharding


def config(path: Path, sharding: str) -> Config:
    features = [
        each if each.get("kind") == "dense" else {**each, "sharding": sharding_of(each["name"], sharding)}
        for each in wide.FEATURES
    ]
    train = {"batch_size": 16, "shuffle_rows": 64, "hide_ids": 0.2, "table_lr": 0.05, "lr": 0.002}
    return wide.config(
        path, path.parent / "run", features=features, item_sharding=sharding_of("item_id", sharding), train=train
    )


def readers(config: Config, encoder: Encoder, world_size: int) -> list[Reader]:
    t = config.train
    return [
        Reader(encoder, "train", t.batch_size, rank, world_size, shuffle=t.shuffle_rows, hide_ids=t.hide_ids)
        for rank in range(world_size)
    ]


def rates(config: Config, epoch: int, step: int) -> tuple[float, float]:
    """Learning rates that change with every step, the last of them zero."""
    left = 1.0 - (epoch * STEPS + step) / (EPOCHS * STEPS - 1)
    return config.train.lr * left, config.train.table_lr * left


def train_on_ranks(
    config: Config, tables: dict[str, Tensor], dense: dict[str, Tensor]
) -> tuple[live.Shards, dict[str, Tensor], dict[str, str], dict[str, Tensor]]:
    """Shards, dense state, the plan's sharding by table, and the momentum of the tables that this rank owns."""
    with process_group() as ranks:
        encoder = fit(config)
        sharded = build(config, encoder, ranks)
        live.fill(sharded, tables, dense)
        reader = readers(config, encoder, ranks.world_size)[ranks.rank]
        for epoch in range(EPOCHS):
            pipeline = TrainPipelineSparseDist(sharded.model, sharded.optimizer, ranks.device)
            batches = reader.epoch(epoch)
            for step in range(reader.steps):
                sharded.set_rates(*rates(config, epoch, step))
                pipeline.progress(batches)
        plan = {
            name: parameter.sharding_type
            for module in sharded.model.plan.plan.values()
            for name, parameter in module.items()
        }
        momentum = {
            key: value.local_shards()[0].tensor.clone()
            for state in sharded.model.fused_optimizer.state_dict()["state"].values()
            for key, value in state.items()
            if value.local_shards()
        }
        shards, trained = live.shards(sharded)
        return shards, trained, plan, momentum


def start(config: Config, encoder: Encoder) -> tuple[dict[str, Tensor], DenseArch]:
    torch.manual_seed(7)
    spec = encoder.spec
    tables = {each.name: torch.randn(each.capacity, 8) * 0.1 for each in [spec.item, *spec.single, *spec.multi]}
    return tables, DenseArch(spec, config.model)


@pytest.mark.parametrize("sharding", ["row_wise", "table_wise", "column_wise", "mixed"])
def test_two_ranks_train_as_plain_pytorch_does(tmp_path: Path, sharding: str) -> None:
    made = config(wide.write(tmp_path / "data"), sharding)
    encoder = fit(made)
    tables, dense = start(made, encoder)

    results = run_ranks(2, train_on_ranks, made, tables, dense.state_dict())
    assert results[0][2] == {name: sharding_of(name, sharding) for name in tables}

    plain = Plain(dense, tables, made.train)
    for epoch in range(EPOCHS):
        for step, batches in enumerate(zip(*(each.epoch(epoch) for each in readers(made, encoder, 2)), strict=True)):
            plain.step(batches, rates(made, epoch, step))

    trained = live.whole([result[0] for result in results])
    for name, table in plain.tables.items():
        moved = (table - tables[name]).abs()
        # Against the reference's own steps: a wrong factor of the gradient shows, however small the weights.
        torch.testing.assert_close(trained[name], table.detach(), atol=2e-5, rtol=1e-4)
        assert moved.max() > 0.05, f"{name} has been trained"
    free = len(encoder.maps["item_id"].ids) + 1
    assert torch.equal(trained["item_id"][free:], tables["item_id"][free:]), "rows nobody named keep their values"
    for result in results:
        for key, value in plain.dense.state_dict().items():
            if key == "attention.score.bias":
                continue  # a softmax is blind to it: its gradient is rounding alone, which Adam blows up
            torch.testing.assert_close(result[1][key], value, atol=2e-5, rtol=1e-3)
    for key, value in dense.state_dict().items():
        if value.is_floating_point() and value.numel() > 100:
            assert not torch.allclose(results[0][1][key], value, atol=1e-3), f"{key} has been trained"
    sums: dict[str, list[Tensor]] = {}
    for result in results:
        for key, value in result[3].items():
            sums.setdefault(key.split(".")[0], []).append(value)
    for name, parts in sums.items():
        torch.testing.assert_close(torch.cat(parts), plain.sums[name], atol=1e-9, rtol=1e-3)
    assert sums.keys() == tables.keys()


def plans(config: Config) -> tuple[dict[str, str], int, float, float]:
    """The plan, the cells that this rank holds of the item table, and the mean and deviation of its initial values."""
    with process_group() as ranks:
        sharded = build(config, fit(config), ranks)
        held = torch.cat([values.flatten() for name, _, values in live.shards(sharded)[0] if name == "item_id"])
        plan = {
            name: parameter.sharding_type
            for module in sharded.model.plan.plan.values()
            for name, parameter in module.items()
        }
        return plan, held.numel(), float(held.mean()), float(held.std())


def test_each_table_follows_its_own_constraint_and_starts_random(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    shardings = dict(zip(["user_id", "gender", "device", "tags"], ["row_wise", "table_wise"] * 2, strict=True))
    features = [{**each, "sharding": shardings.get(each["name"], "auto")} for each in wide.FEATURES]
    made = wide.config(path, tmp_path / "run", features=features, item_sharding="row_wise", item_capacity=1000)
    results = run_ranks(2, plans, made)
    for plan, cells, mean, std in results:
        assert {name: plan[name] for name in shardings} == shardings
        assert plan["item_id"] == "row_wise" and plan["genres"] in ("row_wise", "table_wise", "column_wise")
        assert cells == 500 * 8, "a rank never holds more than its share of a row-wise table"
        assert abs(mean) < 0.001 and std == pytest.approx(made.model.init_std, rel=0.1)
    assert results[0][2] != results[1][2], "the ranks do not draw the same values"
