"""Training on several ranks under every sharding against plain PyTorch on one process."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.config import Config
from recsys.data.encode import Encoder, InputSpec, TableSpec
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.model.ranker import DenseArch
from recsys.tables.plan import check
from recsys.train import build
from tests import live, wide
from tests.plain import Plain
from tests.ranks import run_ranks

STEPS = 20  # of 203 rows an epoch, each of which ends in padding


MIXED = {
    "item_id": "row_wise",
    "user_id": "row_wise",
    "genres": "table_wise",
    "tags": "row_wise",
    "gender": "table_wise",
}
"""A plan with several shardings, lists of values in two of them; tables not named are data-parallel."""

HOSTS = {
    "item_id": "row_wise",
    "user_id": "grid_shard",
    "genres": "table_row_wise",
    "tags": "table_column_wise",
    "gender": "grid_shard",
    "device": "table_row_wise",
}
"""A plan with the shardings that tell hosts apart, for two hosts of two ranks; the others are for one such host."""
SHARDINGS = ["row_wise", "table_wise", "column_wise", "data_parallel", "mixed", "hosts"]
PIECES = {"column_wise": 2, "grid_shard": 2, "table_column_wise": 2}
"""Into how many pieces they cut the columns of the tests' tables, which are 8 wide."""


def sharding_of(table: str, sharding: str) -> str:
    if sharding == "hosts":
        return HOSTS[table]
    if sharding == "mixed":
        return MIXED.get(table, "data_parallel")
    return "row_wise" if (table, sharding) == ("item_id", "data_parallel") else sharding


def pieces_of(sharding: str, tables: Iterable[str]) -> dict[str, int]:
    """Pieces that the columns of each table are cut into."""
    return {name: PIECES.get(sharding_of(name, sharding), 1) for name in tables}


def ranks_of(sharding: str) -> tuple[int, int]:
    """Ranks, and ranks a host."""
    return (4 if sharding == "hosts" else 2), 2


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


def epochs(steps: int) -> int:
    """Whole epochs of so many steps that make STEPS."""
    return -(-STEPS // steps)


def height(epoch: int, step: int, steps: int) -> float:
    """A share of the learning rates that changes with every step, the last of them zero."""
    return 1.0 - (epoch * steps + step) / (epochs(steps) * steps - 1)


def rates(config: Config, share: float) -> tuple[float, float]:
    return config.train.lr * share, config.train.table_lr * share


@dataclass
class Trained:
    """One rank's shards, dense state, plan (sharding by table), and its pieces of the Adagrad sums."""

    shards: live.Shards
    dense: dict[str, Tensor]
    plan: dict[str, str]
    sums: live.Sums


def train_on_ranks(config: Config, tables: dict[str, Tensor], dense: dict[str, Tensor]) -> Trained:
    with process_group() as ranks:
        encoder = fit(config)
        sharded = build(config, encoder, ranks)
        live.fill(sharded, tables, dense)
        reader = readers(config, encoder, ranks.world_size)[ranks.rank]
        for epoch in range(epochs(reader.steps)):
            pipeline = TrainPipelineSparseDist(sharded.model, sharded.optimizer, ranks.device)
            batches = reader.epoch(epoch)
            for step in range(reader.steps):
                sharded.scale_rates(height(epoch, step, reader.steps))
                pipeline.progress(batches)
        plan = {
            name: parameter.sharding_type
            for module in sharded.model.plan.plan.values()
            for name, parameter in module.items()
        }
        return Trained(*live.shards(sharded), plan, live.sums(sharded))


def start(config: Config, encoder: Encoder) -> tuple[dict[str, Tensor], DenseArch]:
    torch.manual_seed(7)
    spec = encoder.spec
    tables = {each.name: torch.randn(each.capacity, 8) * 0.1 for each in [spec.item, *spec.single, *spec.multi]}
    return tables, DenseArch(spec, config.model)


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_ranks_train_as_plain_pytorch_does(tmp_path: Path, sharding: str) -> None:
    made = config(wide.write(tmp_path / "data"), sharding)
    encoder = fit(made)
    tables, dense = start(made, encoder)

    world_size, local = ranks_of(sharding)
    results = run_ranks(world_size, train_on_ranks, made, tables, dense.state_dict(), local_world_size=local)
    assert results[0].plan == {name: sharding_of(name, sharding) for name in tables}

    plain = Plain(dense, tables, made.train, pieces_of(sharding, tables))
    together = readers(made, encoder, world_size)
    for epoch in range(epochs(together[0].steps)):
        for step, batches in enumerate(zip(*(each.epoch(epoch) for each in together), strict=True)):
            plain.step(batches, rates(made, height(epoch, step, together[0].steps)))

    trained = live.whole([result.shards for result in results])
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
            torch.testing.assert_close(result.dense[key], value, atol=2e-5, rtol=1e-3)
    for key, value in dense.state_dict().items():
        if value.is_floating_point() and value.numel() > 100:
            assert not torch.allclose(results[0].dense[key], value, atol=1e-3), f"{key} has been trained"
    sums = live.whole_sums([result.sums for result in results])
    assert sums.keys() == tables.keys()
    for name, found in sums.items():
        torch.testing.assert_close(found, plain.sums[name], atol=1e-9, rtol=1e-3)


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


@pytest.mark.parametrize("sharding", ["row_wise", "column_wise"])
def test_fp16_tables_train_to_within_their_rounding(tmp_path: Path, sharding: str) -> None:
    made = config(wide.write(tmp_path / "data"), sharding)
    made = replace(made, model=replace(made.model, table_dtype="fp16"))
    encoder = fit(made)
    tables, dense = start(made, encoder)
    tables = {name: table.half().float() for name, table in tables.items()}
    results = run_ranks(2, train_on_ranks, made, tables, dense.state_dict())
    plain = Plain(dense, tables, made.train, pieces_of(sharding, tables))
    together = readers(made, encoder, 2)
    steps = epochs(together[0].steps) * together[0].steps
    for epoch in range(epochs(together[0].steps)):
        for step, batches in enumerate(zip(*(each.epoch(epoch) for each in together), strict=True)):
            plain.step(batches, rates(made, height(epoch, step, together[0].steps)))
    for name, found in live.whole([result.shards for result in results]).items():
        assert found.dtype == torch.float16
        # Each step rounds to the nearest of numbers that lie 2^-10 of their power of two apart.
        rounding = 2.0**-11 * torch.maximum(found.float().abs(), plain.tables[name].detach().abs()).max()
        error = (found.float() - plain.tables[name].detach()).abs().max()
        assert error <= steps * rounding and error > 0, name
    for name, found in live.whole_sums([result.sums for result in results]).items():
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, plain.sums[name], atol=1e-7, rtol=2e-2)


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"item_sharding": "data_parallel"}, 2, "table item_id: sharding data_parallel: torchrec computes wrong results"),
    ({"item_sharding": "grid_shard"}, 2, "table item_id: sharding grid_shard: torchrec has it for pooled tables alone"),
    ({"item_sharding": "table_row_wise"}, 2, "those of items take table_wise, row_wise, column_wise"),
    ({"gender": "table_row_wise"}, 3, "table gender: sharding table_row_wise: 3 ranks do not divide into hosts of 2"),
    ({"gender": "grid_shard"}, 3, "3 ranks do not divide into hosts of 2"),
    ({"gender": "column_wise", "dim": 4}, 2, "table gender: sharding column_wise: 4 columns do not divide into 2 to 2"),
    ({"item_sharding": "column_wise", "dim": 20}, 3, "20 columns do not divide into 2 to 3 pieces"),
    ({"gender": "data_parallel", "decay": 0.1}, 2, "train.table_weight_decay would shrink rows that no step has named"),
    ({"gender": "data_parallel", "dtype": "fp16"}, 2, "expected model.table_dtype=fp32"),
    ({"item_sharding": "row_wise", "item_capacity": 10**12}, 2, "no sharding fits these ranks: Shard of size"),
]


def told(configs: list[Config]) -> list[str]:
    """What building each says on this rank."""
    said = []
    with process_group() as ranks:
        for made in configs:
            with pytest.raises(InputError) as error:
                build(made, fit(made), ranks)
            said.append(str(error.value))
    return said


@pytest.mark.parametrize("world_size", [2, 3])
def test_shardings_that_would_be_wrong_are_refused_with_the_reason(tmp_path: Path, world_size: int) -> None:
    path = wide.write(tmp_path / "data")
    cases = [(change, expected) for change, ranks, expected in REFUSED if ranks == world_size]
    configs = []
    for change, _ in cases:
        features = [
            {**each, **({"sharding": change[each["name"]]} if each["name"] in change else {})} for each in wide.FEATURES
        ]
        item = {key: change[key] for key in ("item_sharding", "item_capacity") if key in change}
        made = wide.config(path, tmp_path / "run", features=features, **item)
        model = replace(made.model, dim=change.get("dim", 8), table_dtype=change.get("dtype", "fp32"))
        configs.append(
            replace(made, model=model, train=replace(made.train, table_weight_decay=change.get("decay", 0.0)))
        )
    results = run_ranks(world_size, told, configs, local_world_size=2)
    for said in results:
        for message, (_, expected) in zip(said, cases, strict=True):
            assert expected in message


def test_a_single_row_is_not_laid_over_several_hosts() -> None:
    two_hosts, one_host = (Ranks(0, 4, local, torch.device("cpu")) for local in (2, 4))
    spec = InputSpec(
        item=TableSpec("item_id", 9, "row_wise"), single=[TableSpec("a", 1, "grid_shard")], multi=[], dense=0, history=0
    )
    with pytest.raises(
        InputError, match="table a: sharding grid_shard: torchrec fails to lay a single row over several"
    ):
        check(spec, Config(), two_hosts)
    check(spec, Config(), one_host)
