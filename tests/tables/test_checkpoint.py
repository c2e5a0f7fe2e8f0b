"""Checkpoints of real runs: interrupted and resumed, loaded under other ranks and shardings, never a partial one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from recsys.config import Config
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.train import build, fitted, train
from tests import live, wide
from tests.ranks import run_ranks

STEPS = 7  # an epoch of 203 rows on 2 ranks of 16 rows
State = dict[str, Tensor]


class Killed(Exception):
    """Stands for a kill at a chosen moment."""


def config(home: Path, run: str, sharding: str = "row_wise", **settings: object) -> Config:
    features = [each if each.get("kind") == "dense" else {**each, "sharding": sharding} for each in wide.FEATURES]
    train = {"batch_size": 16, "shuffle_rows": 64, "epochs": 2, "evals_per_epoch": 3, "patience": 99, "keep": 2}
    model = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4, "dropout": 0.3}
    return wide.config(
        home / "data",
        home / run,
        features=features,
        item_sharding=sharding,
        model=model,
        train={**train, "hide_ids": 0.2, **settings},
    )


def state_of(sharded: Any) -> tuple[live.Shards, State]:
    """This rank's shards of tables and momentum, and dense weights with Adam's state."""
    shards, dense = live.shards(sharded)
    for state in sharded.model.fused_optimizer.state_dict()["state"].values():
        for name, value in state.items():
            shards += [
                (name, (*live.bounds(shard)[0], 0)[:2], shard.tensor.reshape(len(shard.tensor), -1).clone())
                for shard in value.local_shards()
            ]
    for name, state in sharded.dense_optimizer.state_dict()["state"].items():
        dense |= {f"adam {name} {key}": torch.as_tensor(value).clone() for key, value in state.items()}
    return shards, dense


def train_and_look(config: Config) -> tuple[Progress, live.Shards, State]:
    """Train as the command does, then load the newest checkpoint into a fresh model."""
    with process_group() as ranks:
        progress = train(config, ranks)
        found = loaded(config, ranks)
        assert found[0] == progress
        return found


def train_until_killed(config: Config, save: int) -> tuple[Progress, live.Shards, State]:
    """Die within the `save`-th checkpoint, after its tensors are written and before it is whole; what is left."""
    original, calls = dcp.save, []

    def dies(*given: Any, **named: Any) -> Any:
        metadata = original(*given, **named)
        calls.append(1)
        if len(calls) == save:
            raise Killed
        return metadata

    pytest.MonkeyPatch().setattr(dcp, "save", dies)  # never undone: the process is its own
    with process_group() as ranks:
        with pytest.raises(Killed):
            train(config, ranks)
        return loaded(config, ranks)


def loaded(config: Config, ranks: Ranks) -> tuple[Progress, live.Shards, State]:
    """The newest checkpoint, in a fresh model."""
    sharded = build(config, fitted(config, ranks), ranks)
    newest = checkpoint.latest(Path(config.run) / "checkpoints")
    assert newest is not None
    return checkpoint.load(newest, sharded), *state_of(sharded)


def look(config: Config) -> tuple[Progress, live.Shards, State]:
    with process_group() as ranks:
        return loaded(config, ranks)


def look_and_train(config: Config) -> tuple[tuple[Progress, live.Shards, State], Progress]:
    with process_group() as ranks:
        return loaded(config, ranks), train(config, ranks)


def seen(results: list[tuple[Progress, live.Shards, State]]) -> State:
    return live.whole([shards for _, shards, _ in results]) | results[0][2]


def names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("*")}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    wide.write(folder / "data")
    return folder


@pytest.fixture(scope="module")
def whole_run(home: Path) -> tuple[Config, list[tuple[Progress, live.Shards, State]]]:
    """A run of 2 epochs that nothing interrupted, on 2 ranks, row-wise."""
    made = config(home, "whole")
    return made, run_ranks(2, train_and_look, made)


WholeRun = tuple[Config, list[tuple[Progress, live.Shards, State]]]


def test_the_last_ones_and_the_best_are_kept(whole_run: WholeRun) -> None:
    made, results = whole_run
    progress = results[0][0]
    assert progress.step == 2 * STEPS and progress.done and progress.epoch == 2
    best = checkpoint.best(Path(made.run) / "checkpoints")
    assert names(Path(made.run)) == {"step-00000013", "step-00000014", best.name}
    assert checkpoint.progress_of(best).best_auc == progress.best_auc
    assert int(best.name[-8:]) == checkpoint.progress_of(best).step


def test_interrupted_and_resumed_is_bit_identical(home: Path, whole_run: WholeRun) -> None:
    """Killed in the middle of the first epoch and of a save; with dropout, hidden ids and Adam's state."""
    made = config(home, "resumed")
    killed = run_ranks(2, train_until_killed, made, 2)
    assert killed[0][0].step == 3, "the half-written one is never picked"
    assert names(Path(made.run)) == {"step-00000003", "step-00000006.partial"}

    results = run_ranks(2, train_and_look, made)
    expected = whole_run[1]
    assert results[0][0] == expected[0][0]
    mine, theirs = seen(results), seen(expected)
    assert mine.keys() == theirs.keys() and sum(name.startswith("adam") for name in mine) > 20
    different = [name for name in theirs if not torch.equal(mine[name], theirs[name])]
    assert not different
    assert names(Path(made.run)) == names(Path(whole_run[0].run))


def test_a_finished_run_is_left_alone(whole_run: WholeRun) -> None:
    made, results = whole_run
    checkpoints = Path(made.run) / "checkpoints"
    before = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*")}
    again = run_ranks(1, train_and_look, made)
    assert again[0][0] == results[0][0]
    assert {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*")} == before


def test_two_ranks_row_wise_load_as_one_table_wise(whole_run: WholeRun) -> None:
    """Weights, momentum and Adam's state, value by value."""
    made, results = whole_run
    found, expected = seen(run_ranks(1, look, config(Path(made.run).parent, "whole", "table_wise"))), seen(results)
    assert found.keys() == expected.keys() and sum("momentum" in name for name in found) == 6
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_one_rank_table_wise_loads_as_two_row_wise_and_trains_on(home: Path) -> None:
    expected = seen(run_ranks(1, train_until_killed, config(home, "alone", "table_wise"), 2))
    results = run_ranks(2, look_and_train, config(home, "alone", "row_wise"))
    found = seen([first for first, _ in results])
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # 5 steps of 16 rows were done alone; of 203 rows 123 are left, 62 and 61 for the two ranks.
    progress = results[0][1]
    assert progress.done and progress.epoch == 2 and progress.step == 5 + 4 + STEPS


def test_a_checkpoint_of_another_model_names_the_first_difference(whole_run: WholeRun, tmp_path: Path) -> None:
    made, _ = whole_run
    newest = checkpoint.latest(Path(made.run) / "checkpoints")
    other = {
        "wider": replace(made, model=replace(made.model, top=[24])),
        "fewer": replace(made, features=made.features[:-3]),
        "more": replace(made, features=[*made.features, replace(made.features[1], name="title", of="item")]),
    }
    shutil.copytree(Path(made.run) / "encoder", tmp_path / "encoder")
    messages = run_ranks(1, refusals, {k: replace(c, run=str(tmp_path / k)) for k, c in other.items()}, newest)[0]
    prefix = f"{newest}: checkpoint of another model: "
    assert messages["wider"].startswith(prefix + "tensor ranker.dense_arch.")
    assert messages["wider"].endswith("(1, 16), expected (1, 24)")
    assert messages["fewer"].startswith(prefix)
    assert messages["more"].startswith(prefix + "it has no tensor ranker.bags.embedding_bags.title.weight (")


def refusals(configs: dict[str, Config], path: Path) -> dict[str, str]:
    said = {}
    with process_group() as ranks:
        for name, config in configs.items():
            try:
                checkpoint.load(path, build(config, fitted(config, ranks), ranks))
            except InputError as error:
                said[name] = str(error)
    return said


def test_changed_bytes_are_refused_on_every_rank(whole_run: WholeRun, tmp_path: Path) -> None:
    """Whichever rank has read the file that they are in; it is named."""
    made, _ = whole_run
    newest = checkpoint.latest(Path(made.run) / "checkpoints")
    assert newest is not None
    for name in ("__0_0.distcp", "__1_0.distcp", ".metadata"):
        copy = shutil.copytree(newest, tmp_path / name / newest.name)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        assert checkpoint.latest(copy.parent) == copy
        said = [each["it"] for each in run_ranks(2, refusals, {"it": made}, copy)]
        assert said[0].startswith(f"{copy / name}: damaged") and said[0] == said[1]


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trained checkpoint"):
        checkpoint.best(tmp_path)
    assert checkpoint.latest(tmp_path / "none") is None
    with pytest.raises(InputError, match="not a whole checkpoint"):
        checkpoint.stored_tensors(tmp_path)
