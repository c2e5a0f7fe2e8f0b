"""A run that is trained, changed and read by several processes at the same time."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys.config import Config
from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, live, locks, log, service
from recsys.tables.checkpoint import Progress, Saver
from recsys.tables.rows import Rows
from recsys.train import build, fitted
from tests.ranks import run_ranks
from tests.tables import saved
from tests.tables.changes import piece

SAVES = 12
DONE = "done"


@pytest.fixture
def made(home: Path, tmp_path: Path) -> Config:
    """A run of its own, with an export."""
    shutil.copytree(home / "row_wise", tmp_path / "run")
    return replace(saved.config(home, "row_wise"), run=str(tmp_path / "run"))


def train_like(made: Config) -> int:
    """Save one checkpoint after the other in the background, with what the log holds by then; the newest delta."""
    run = Path(made.run)
    with process_group() as ranks, locks.training(run):
        sharded = build(made, fitted(made, ranks), ranks)
        version = saved.VERSION
        with Saver(run / "checkpoints", keep=1) as saver:
            for step in range(8, 8 + SAVES):
                version = live.catch_up(run, sharded, version.at(step), ranks)
                saver.save(sharded, Progress(step=step, best_auc=0.6, worse=step % 4), version)
                assert checkpoint.whole(run / "checkpoints")
        (run / DONE).touch()
        return version.delta


def publish(made: Config) -> int:
    """Change a row again and again, and compact the log now and then, until training is done; how often."""
    run, count = Path(made.run), 0
    owner = IdMap.load(run / "encoder" / "item_id.parquet").owners(torch.tensor([2]).numpy())[0].as_py()
    end = time.monotonic() + 90
    while not (run / DONE).exists() and time.monotonic() < end:
        count += 1
        rows = {2: (owner, torch.full((saved.DIM,), float(count)), float(count))}
        service.publish(run, lambda rows=rows: [piece("item_id", rows, saved.VERSION)])  # type: ignore[misc]
        if count % 3 == 0:
            service.compact(run)
    return count


def test_a_run_is_trained_and_changed_at_once(made: Config) -> None:
    with ThreadPoolExecutor(2) as pool:
        training, publishing = pool.submit(run_ranks, 1, train_like, made), pool.submit(run_ranks, 1, publish, made)
        [taken], [count] = training.result(), publishing.result()
    run = Path(made.run)
    assert count > 3 and 0 < taken <= count
    service.catch_up(run)
    newest = checkpoint.latest(run / "checkpoints")
    assert newest and checkpoint.version_of(newest).delta == count and checkpoint.progress_of(newest).step == 7 + SAVES
    assert set(service.holders(run).values()) == {count}
    assert (checkpoint.read(newest, [saved.ITEM])[saved.ITEM][2] == float(count)).all()


def test_what_a_live_model_may_still_take_is_not_retired(made: Config) -> None:
    run = Path(made.run)
    owner = IdMap.load(run / "encoder" / "item_id.parquet").owners(torch.tensor([2]).numpy())[0].as_py()
    rows = {2: (owner, torch.ones(saved.DIM), 0.0)}
    service.publish(run, lambda: [piece("item_id", rows, saved.VERSION)])
    with locks.training(run):
        with pytest.raises(InputError, match="another process trains this run"):
            service.retire(run)
        with pytest.raises(InputError, match="another process trains this run"), locks.training(run):
            pass
    assert service.retire(run) == 1


def train_a_row_on(made: Config) -> None:
    """As training does after it took the first delta: row 2 has moved on, and a later state is saved."""
    run = Path(made.run)
    with process_group() as ranks:
        sharded = build(made, fitted(made, ranks), ranks)
        best = checkpoint.best(run / "checkpoints")
        checkpoint.load(best, sharded)
        Rows(sharded, ranks).write("item_id", torch.tensor([2]), torch.full((1, saved.DIM), 3.0))
        progress = replace(checkpoint.progress_of(best), step=12)
        checkpoint.save(run / "checkpoints", sharded, progress, 1, checkpoint.version_of(best).at(12))


def test_compaction_takes_no_training_back(made: Config) -> None:
    run = Path(made.run)
    ids = IdMap.load(run / "encoder" / "item_id.parquet")
    owners = ids.owners(torch.tensor([2, 9]).numpy()).to_pylist()
    first = {2: (owners[0], torch.full((saved.DIM,), 1.0), 0.0)}
    second = {9: (owners[1], torch.full((saved.DIM,), 2.0), 0.0)}
    service.publish(run, lambda: [piece("item_id", first, saved.VERSION)])
    run_ranks(1, train_a_row_on, made)
    # A process that has logged the second died before it applied it; the log is compacted before anybody catches up.
    log.append(run, [piece("item_id", second, saved.VERSION)])
    service.compact(run)
    service.catch_up(run)
    newest = checkpoint.latest(run / "checkpoints")
    assert newest
    weight = checkpoint.read(newest, [saved.ITEM])[saved.ITEM]
    assert (weight[2] == 3.0).all() and (weight[9] == 2.0).all()
    assert checkpoint.version_of(newest).delta == 2
