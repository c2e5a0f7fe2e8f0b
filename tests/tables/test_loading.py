"""Checkpoints loaded under every sharding and number of ranks: values, optimizer state, and training from them on."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, product
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.config import Config
from recsys.data.batch import Batch
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.distributed import Ranks, process_group
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.tables.sharding import Sharded
from recsys.tables.version import Version
from recsys.train import build
from tests import live, wide
from tests.ranks import run_ranks
from tests.tables.test_sharding import config, readers, start

SHARDINGS = ["row_wise", "table_wise", "column_wise", "data_parallel", "table_row_wise", "grid_shard"]
DIM = 8
TRAINED = [(name, name) for name in SHARDINGS] + [(name, "row_wise") for name in SHARDINGS[1:]]
"""Which is loaded under which sharding and trained on."""
AFTER = 2
"""Steps that are trained on."""


@dataclass
class State:
    """What one rank holds: pieces of tables and of their sums, the dense part with Adam's state, the next losses."""

    shards: live.Shards
    dense: dict[str, Tensor]
    sums: live.Sums
    losses: list[float] = field(default_factory=list)


def state_of(sharded: Sharded) -> State:
    shards, dense = live.shards(sharded)
    for name, state in sharded.dense_optimizer.state_dict()["state"].items():
        dense |= {f"adam {name} {key}": value.clone() for key, value in state.items()}
    return State(shards, dense, live.sums(sharded))


def train(sharded: Sharded, ranks: Ranks, batches: Iterator[Batch]) -> list[float]:
    sharded.scale_rates(1.0)
    pipeline = TrainPipelineSparseDist(sharded.model, sharded.optimizer, ranks.device)
    losses = []
    some = list(batches)
    feed = iter(some)
    for _ in some:
        loss, *_ = pipeline.progress(feed)
        losses.append(float(loss))
    return losses


Tables = dict[str, Tensor]
Results = tuple[dict[str, State], dict[tuple[str, str], State]]


def save_and_load_all(home: Path, tables: Tables, dense: Tables) -> Results:
    """Train and save under each sharding, then load each of them under each; all on the same four ranks."""
    with process_group() as ranks:
        configs = {name: config(home / "data", name) for name in SHARDINGS}
        encoder = fit(configs["row_wise"])
        reader = readers(configs["row_wise"], encoder, ranks.world_size)[ranks.rank]
        models, paths, saved, loaded = {}, {}, {}, {}
        for name, made in configs.items():
            models[name] = build(made, encoder, ranks)
            live.fill(models[name], tables, dense)
            train(models[name], ranks, reader.epoch(0))
            progress = Progress(step=reader.steps, best_auc=0.5)
            paths[name] = checkpoint.save(home / name, models[name], progress, 1, Version("tables", "run"))
            saved[name] = state_of(models[name])
            saved[name].losses = train(models[name], ranks, islice(reader.epoch(1), AFTER))
        for source, target in product(SHARDINGS, SHARDINGS):
            assert checkpoint.load(paths[source], models[target]) == progress
            loaded[source, target] = state_of(models[target])
            if (source, target) in TRAINED:
                loaded[source, target].losses = train(models[target], ranks, islice(reader.epoch(1), AFTER))
        return saved, loaded


def by_column(sums: Tensor, rows: int) -> Tensor:
    """[N, D] the sum that each cell learns by, of those [c * N] of c column pieces of one width."""
    return sums.view(-1, rows).T.repeat_interleave(DIM * rows // len(sums), dim=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("loading")
    wide.write(home / "data")
    return home


@pytest.fixture(scope="module")
def results(home: Path) -> list[Results]:
    made = config(home / "data", "row_wise")
    tables, dense = start(made, fit(made))
    return run_ranks(4, save_and_load_all, home, tables, dense.state_dict(), local_world_size=2)


@pytest.mark.parametrize("target", SHARDINGS)
@pytest.mark.parametrize("source", SHARDINGS)
def test_every_sharding_loads_what_every_other_saved(results: list[Results], source: str, target: str) -> None:
    saved, loaded = [rank[0][source] for rank in results], [rank[1][source, target] for rank in results]
    tables = live.whole([state.shards for state in saved])
    for name, table in live.whole([state.shards for state in loaded]).items():
        assert torch.equal(table, tables[name]), name
    sums = live.whole_sums([state.sums for state in saved])
    for name, found in live.whole_sums([state.sums for state in loaded]).items():
        cells = by_column(sums[name], len(tables[name]))
        assert cells.count_nonzero()
        pieces = cells.double().view(len(tables[name]), -1, DIM * len(tables[name]) // len(found))
        assert torch.equal(found, pieces.mean(2).float().T.flatten()), name
    assert sum(name.startswith("adam") for name in saved[0].dense) > 20
    for before, after in zip(saved, loaded, strict=True):
        assert before.dense.keys() == after.dense.keys()
        assert all(torch.equal(before.dense[name], after.dense[name]) for name in before.dense)


@pytest.mark.parametrize(("source", "target"), TRAINED)
def test_training_goes_on_as_if_nothing_had_happened(results: list[Results], source: str, target: str) -> None:
    """The same bits under the same sharding; under another the same losses, but for sums that were averaged."""
    for saved, loaded in results:
        expected, found = saved[source].losses, loaded[source, target].losses
        if source == target:
            assert found == expected
        else:
            assert found[0] == pytest.approx(expected[0], rel=1e-5)
            assert found == pytest.approx(expected, rel=1e-2)


def save_from(made: Config, ranks: Ranks, encoder: Encoder, folder: Path, source: Path | None) -> State:
    sharded = build(made, encoder, ranks)
    if source:
        checkpoint.load(source, sharded)
    else:
        train(sharded, ranks, readers(made, encoder, ranks.world_size)[ranks.rank].epoch(0))
    checkpoint.save(folder, sharded, Progress(), 1, Version("tables", "run"))
    return state_of(sharded)


def carry(made: Config, folder: Path, source: Path | None) -> State:
    with process_group() as ranks:
        return save_from(made, ranks, fit(made), folder, source)


def test_half_precision_tables(home: Path) -> None:
    """Two ranks, column-wise, to one, row-wise, bit for bit; their sums are float32."""
    made = [config(home / "data", sharding) for sharding in ("column_wise", "row_wise")]
    first, second = (replace(each, model=replace(each.model, table_dtype="fp16")) for each in made)
    expected = live.whole([state.shards for state in run_ranks(2, carry, first, home / "half", None)])
    [found] = run_ranks(1, carry, second, home / "half again", checkpoint.latest(home / "half"))
    tables = live.whole([found.shards])
    assert all(table.dtype == torch.float16 and torch.equal(table, expected[name]) for name, table in tables.items())
    assert all(piece.dtype == torch.float32 for pieces in found.sums.values() for _, piece in pieces)


def test_two_ranks_to_one_to_four(home: Path) -> None:
    """With a table of which the last of four ranks holds no row."""
    states = []
    source = None
    for ranks, sharding in ((2, "row_wise"), (1, "table_wise"), (4, "row_wise")):
        folder = home / f"on {ranks}"
        made = config(home / "data", sharding)
        made = replace(made, features=[replace(f, capacity=5) if f.name == "gender" else f for f in made.features])
        states.append(run_ranks(ranks, carry, made, folder, source))
        source = checkpoint.latest(folder)
    first, *others = (
        (live.whole([s.shards for s in each]), live.whole_sums([s.sums for s in each])) for each in states
    )
    for other in others:
        for expected, found in zip(first, other, strict=True):
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(torch.equal(states[-1][0].dense[name], value) for name, value in states[0][0].dense.items())
