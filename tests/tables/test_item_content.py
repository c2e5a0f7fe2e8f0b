"""Rankers with proxies on two ranks against plain PyTorch on one process; content tables that never move."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.model.ranker import DenseArch
from recsys.predict import predict
from recsys.tables import checkpoint, content, memory
from recsys.tables.checkpoint import Progress
from recsys.train import build, train
from tests import contents, live, wide
from tests.plain import Plain
from tests.ranks import run_ranks

CONTENT = ["item_coarse", "item_layers"]


def config(home: Path, place: str = "slot", layers: bool = True, sharding: str = "row_wise", **train: Any) -> Config:
    paths = {key: str(home / f"{key}.parquet") for key in ("coarse", "layers")}
    model = contents.model(paths, place, layers)
    model["proxy"]["sharding"] = sharding
    train = {"batch_size": 16, "shuffle_rows": 64, "hide_ids": 0.2, "table_lr": 0.05, "lr": 0.01, **train}
    return wide.config(home / "data", home / f"{place}-{layers}", model=model, train=train, item_sharding="row_wise")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contents.home(tmp_path_factory.mktemp("content"))


def readers(made: Config, encoder: Encoder, world_size: int) -> list[Reader]:
    t = made.train
    return [Reader(encoder, "train", t.batch_size, k, world_size, hide_ids=t.hide_ids) for k in range(world_size)]


def train_on_ranks(made: Config, tables: dict[str, Tensor], dense: dict[str, Tensor]) -> Any:
    """Shards as the files filled them and at the end, dense state, sums, plan, and U of each step."""
    with process_group() as ranks:
        encoder = fit(made)
        sharded = build(made, encoder, ranks)
        content.fill(sharded, encoder, ranks)
        filled = live.shards(sharded)[0]
        live.fill(sharded, tables, dense)
        reader = readers(made, encoder, ranks.world_size)[ranks.rank]
        pipeline = TrainPipelineSparseDist(sharded.model, sharded.optimizer, ranks.device)
        batches = reader.epoch()
        for _ in range(reader.steps):
            pipeline.progress(batches)
        assert len(pipeline._pipelined_modules) == 2 + len(encoder.spec.content), "every lookup is pipelined"
        plan = {
            name: parameter.sharding_type
            for module in sharded.model.plan.plan.values()
            for name, parameter in module.items()
        }
        distinct = [len(batch.content_index.unique()) for batch in reader.epoch()]
        return filled, *live.shards(sharded), live.sums(sharded), plan, distinct


@pytest.mark.parametrize(
    ("place", "layers", "sharding"),
    [("slot", True, "row_wise"), ("slot", False, "table_wise"), ("feature", True, "column_wise")],
)
def test_two_ranks_train_as_plain_pytorch_does(home: Path, place: str, layers: bool, sharding: str) -> None:
    made = config(home, place, layers, sharding)
    encoder = fit(made)
    torch.manual_seed(7)
    spec = encoder.spec
    tables = {each.name: torch.randn(each.capacity, 8) * 0.1 for each in [spec.item, *spec.single, *spec.multi]}
    frozen = contents.tables(encoder, {key: str(home / f"{key}.parquet") for key in ("coarse", "layers")})
    dense = DenseArch(spec, made.model)
    if dense.slot.fuse is not None:
        nn.init.normal_(dense.slot.fuse.weight, std=0.1)
    results = run_ranks(2, train_on_ranks, made, tables | frozen, dense.state_dict())

    plain = Plain(dense, tables, made.train, content=frozen)
    steps = zip(*(each.epoch() for each in readers(made, encoder, 2)), strict=True)
    for batches in steps:
        plain.step(batches)
    filled, trained = (live.whole([result[k] for result in results]) for k in (0, 1))
    for name, table in frozen.items():
        assert results[0][4][name] == sharding
        assert torch.equal(filled[name], table), "filled from the files"
        assert torch.equal(trained[name], table), "and never moved"
        for result in results:
            assert all(not values.any() for _, values in result[3].get(name, [])), "nor has its optimizer's state"
    for name, table in plain.tables.items():
        torch.testing.assert_close(trained[name], table.detach(), atol=2e-5, rtol=1e-4)
    start = dense.state_dict()
    for key, value in plain.dense.state_dict().items():
        if key == "attention.score.bias":
            continue  # a softmax is blind to it: its gradient is rounding alone, which Adam blows up
        torch.testing.assert_close(results[0][2][key], value, atol=2e-5, rtol=1e-3)
        if key.startswith(("proxies.", "slot.")):
            assert not torch.allclose(value, start[key], atol=1e-3), f"{key} has been trained"
    assert results[0][5] != results[1][5], "the ranks had different numbers of distinct contents"


def train_resume_and_predict(made: Config, files: list[str]) -> live.Shards:
    """Shards of the best checkpoint, found after the content files have gone."""
    with process_group() as ranks:
        train(replace(made, train=replace(made.train, max_steps=4)), ranks)
        if ranks.is_first:
            for file in files:
                Path(file).rename(f"{file}.gone")
        progress = checkpoint.progress_of(checkpoint.latest(Path(made.run) / "checkpoints") or Path())
        assert progress.step == 4
        predict(replace(made, train=replace(made.train, max_steps=4)), "test", ranks)
        encoder = Encoder.load(made, Path(made.run) / "encoder")
        sharded = build(made, encoder, ranks)
        found = checkpoint.load(checkpoint.best(Path(made.run) / "checkpoints"), sharded)
        assert isinstance(found, Progress)
        return live.shards(sharded)[0]


def test_a_checkpoint_has_the_content_and_the_files_are_read_once(home: Path, tmp_path: Path) -> None:
    paths = contents.write(tmp_path)
    made = config(home, max_steps=4)
    made = replace(made, run=str(tmp_path / "run"))
    proxy = replace(made.model.proxy, coarse=paths["coarse"], layers=paths["layers"])
    made = replace(made, model=replace(made.model, proxy=proxy))
    parts = run_ranks(2, train_resume_and_predict, made, list(paths.values()))
    frozen = contents.tables(
        Encoder.load(made, tmp_path / "run" / "encoder"), {k: f"{v}.gone" for k, v in paths.items()}
    )
    held = live.whole(parts)
    assert all(torch.equal(held[name], table) for name, table in frozen.items())
    scores = pq.read_table(tmp_path / "run" / "scores" / "test")["score"].to_numpy()
    assert len(scores) == 61 and ((scores > 0) & (scores < 1)).all()


def fill_and_plan(made: Config) -> tuple[str, list[memory.Bytes]]:
    with process_group() as ranks:
        encoder = fit(made)
        found = memory.needs(encoder.spec, made, ranks)
        contents.write(Path(made.data.path).parent, items=40)
        with pytest.raises(InputError) as error:
            content.fill(build(made, encoder, ranks), encoder, ranks)
        return str(error.value), found.ranks


def test_the_plan_counts_content_and_a_file_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    wide.write(tmp_path / "data")
    contents.write(tmp_path)
    with_content, without = config(tmp_path), config(tmp_path, "none")
    (said, counted), *_ = run_ranks(1, fill_and_plan, with_content)
    assert "coarse.parquet: has changed since the run's encoder was fitted" in said
    contents.write(tmp_path)
    (_, bare), *_ = run_ranks(1, needs_of, without)
    rows = fit(with_content).spec.content[0].capacity
    assert counted[0].weights - bare[0].weights == rows * (8 + 16) * 2
    assert counted[0].state - bare[0].state == rows * 2 * 4


def needs_of(made: Config) -> tuple[str, list[memory.Bytes]]:
    with process_group() as ranks:
        return "", memory.needs(fit(made).spec, made, ranks).ranks
