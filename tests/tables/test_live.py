"""A delta into a live model on two ranks: as in a dictionary, all or nothing, and what training saves then."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recsys.config import Config
from recsys.data.fit import fit
from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, delta, live, log
from recsys.tables.rows import Rows
from recsys.train import build, train
from tests import tiny
from tests.live import shards, whole
from tests.ranks import run_ranks
from tests.tables import saved
from tests.tables.changes import Table, at_random, piece, written

SHARDINGS = ["row_wise", "table_wise", "column_wise"]
DIM = saved.DIM


def apply(made: Config, folders: list[Path]) -> tuple[list[object], int, Tensor, list[str]]:
    """This rank's shards, the delta that the tables have come to, the state of all item rows, and what was refused."""
    with process_group() as ranks:
        torch.manual_seed(5)
        sharded = build(made, fit(made), ranks)
        rows, version, refused = Rows(sharded, ranks), saved.VERSION, []
        for folder in folders:
            try:
                version = live.apply(delta.read(folder), rows, version, ranks)
            except InputError as error:
                refused.append(str(error))
        count = rows.tables["item_id"].rows if ranks.is_first else 0
        _, state = rows.read("item_id", torch.arange(count))
        return list(shards(sharded)[0]), version.delta, state, refused


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_rows_are_as_the_deltas_say(sharding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(tmp_path / "data")
    made = saved.config(tmp_path, sharding)
    first, second = at_random(1, [0, 1, 2, 11, 29], dim=DIM), at_random(2, [2, 3], dim=DIM)
    genres = at_random(3, [1], dim=DIM)
    monkeypatch.setattr(delta, "ROWS", 2)  # three pieces for two ranks
    folders = [
        written(tmp_path / "1", {"item_id": first}, 1, saved.VERSION, DIM).folder,
        written(tmp_path / "2", {"item_id": second, "genres": genres}, 2, saved.VERSION, DIM).folder,
    ]
    # The first one again is as if it were not there.
    results = run_ranks(2, apply, made, [folders[0], folders[0], folders[1], folders[0]])
    untouched = run_ranks(2, apply, made, [])
    found, before = (whole([result[0] for result in each]) for each in (results, untouched))  # type: ignore[misc]
    state = results[0][2]
    for row, (_, vector, value) in (first | second).items():
        before["item_id"][row] = vector
        assert state[row] == pytest.approx(value)
    before["genres"][1] = genres[1][1]
    assert all(torch.equal(found[name], table) for name, table in before.items())
    assert [result[1] for result in results] == [2, 2] and not results[0][3]
    named = torch.tensor(sorted(first | second))
    assert not state[[row for row in range(len(state)) if row not in named]].any()


def test_what_one_rank_finds_wrong_is_written_by_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(tmp_path / "data")
    made = saved.config(tmp_path, "row_wise")
    monkeypatch.setattr(delta, "ROWS", 2)
    bad: dict[str, dict[str, Table]] = {
        "row 100000": {"item_id": at_random(1, [1, 2, 3, 100_000], dim=DIM)},
        "expected one of": {"item_id": at_random(1, [1], dim=DIM), "nothing": at_random(1, [1], dim=DIM)},
    }
    folders = [written(tmp_path / said, tables, 1, saved.VERSION, DIM).folder for said, tables in bad.items()]
    damaged = written(tmp_path / "damaged", {"item_id": at_random(1, [1, 2, 3], dim=DIM)}, 1, saved.VERSION, DIM)
    results = run_ranks(2, apply, made, folders)
    untouched = run_ranks(2, apply, made, [])
    found, before = (whole([result[0] for result in each]) for each in (results, untouched))  # type: ignore[misc]
    assert all(torch.equal(found[name], table) for name, table in before.items())
    assert results[0][3] == results[1][3] and len(results[0][3]) == 2
    for said, message in zip(bad, results[0][3], strict=True):
        assert said in message
    path = damaged.folder / "item_id.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="bytes, expected"):
        delta.read(damaged.folder)


def train_some(made: Config) -> int:
    with process_group() as ranks:
        train(made, ranks)
        newest = checkpoint.latest(Path(made.run) / "checkpoints")
        assert newest
        return checkpoint.version_of(newest).delta


def test_training_takes_what_others_log(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data")
    changes = {
        "train": {"batch_size": 16, "shuffle_rows": 64, "max_steps": 4, "hide_ids": 0.0, "lr": 0.0, "decay": False}
    }
    made = tiny.config(tmp_path / "data", tmp_path / "run", **changes)
    run = tmp_path / "run"
    assert run_ranks(2, train_some, made)[0] == 0
    path = checkpoint.latest(run / "checkpoints")
    assert path
    ids = IdMap.load(run / "encoder" / "item_id.parquet")
    free = len(ids.ids) + 3  # a row that no step names
    table: Table = {free: ("new item", torch.full((8,), 0.25), 0.5)}
    # Logged for whatever run trains here: the run begins anew, with another dense part.
    log.append(run, [piece("item_id", table, checkpoint.version_of(path))], forced=True)
    shutil.rmtree(path)
    assert run_ranks(2, train_some, made)[0] == 1
    newest = checkpoint.latest(run / "checkpoints")
    assert newest and newest.name == path.name, "trained again to the same step"
    weight = checkpoint.read(newest, [saved.ITEM])[saved.ITEM]
    assert torch.equal(weight[free], table[free][1])
