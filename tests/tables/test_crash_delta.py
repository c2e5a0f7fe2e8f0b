"""A process killed at any moment of a delta's writing, of its application and of compaction: old or new, whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.ids import IdMap
from recsys.tables import checkpoint, log, manifest, service
from recsys.tables.bundle import Bundle
from recsys.tables.places import FORMAT
from tests import crash
from tests.tables import saved
from tests.tables.changes import Table, piece, rows_of, same

ROWS = [2, 5, 28]
OLD_TO_NEW = [("first", 1.0), ("second", 2.0)]
"""Owner of the last row and the value of every number, by delta."""


def rows(number: int) -> Table:
    """What the delta of this number says."""
    owner, value = OLD_TO_NEW[number - 1]
    return {row: (owner if row == ROWS[-1] else None, torch.full((saved.DIM,), value), value) for row in ROWS}


def append(run: Path, number: int) -> None:
    log.append(run, [piece("item_id", rows(number), saved.VERSION)])


def catch_up(run: Path) -> None:
    service.catch_up(run)


def compact(run: Path) -> None:
    service.compact(run)


def numbers(run: Path) -> dict[str, int]:
    """Check every byte of a run's checkpoint, id map and bundle; the delta that each is at, by what it says."""
    [path] = checkpoint.whole(run / "checkpoints")
    manifest.verify(path, FORMAT)
    state = {"checkpoint": _number(saved.plain(run)["item_id"])}
    assert checkpoint.version_of(path).delta == state["checkpoint"]
    ids = IdMap.load(run / "encoder" / "item_id.parquet")
    owner = ids.owners(np.array(ROWS[-1:])).to_pylist()[0]
    state["ids"] = next((k + 1 for k, (name, _) in enumerate(OLD_TO_NEW) if name == owner), 0)
    assert ids.delta == state["ids"]
    bundle = Bundle.load(run / "export")
    bundle.check()
    state["bundle"] = bundle.told["origin"]["delta"]
    held = bundle.vectors["item_id"].take(torch.tensor([2, 5])).numpy()
    assert _number(np.insert(np.zeros((30, saved.DIM), np.float32), [2, 4], held, 0)) == state["bundle"]
    return state


def _number(table: np.ndarray) -> int:
    """The delta that has written the table's rows; all of its rows or none."""
    values = set(table[ROWS[:2]].flatten().tolist())
    found = [k + 1 for k, (_, value) in enumerate(OLD_TO_NEW) if values == {value}]
    assert found or not values & {1.0, 2.0}
    return found[0] if found else 0


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    """A run with a delta in its log that is applied, and a second that is not."""
    run = shutil.copytree(home / "row_wise", tmp_path / "run")
    append(run, 1)
    catch_up(run)
    return run


def killed(run: Path, work: Callable[..., None], *args: int) -> list[tuple[str, Path]]:
    """The run after kills at some of a work's points, each in a copy of its own; each point with it."""
    done = shutil.copytree(run, run.parent / "done")
    found: list[tuple[str, Path]] = []
    for point in crash.chosen(crash.points(done, work, done, *args)):
        copy = shutil.copytree(run, run.parent / f"killed {len(found)}")
        crash.kill(point, copy, work, copy, *args)
        found.append((point, copy))
    return found


def leftovers(run: Path) -> list[str]:
    return [path.name for folder in ("deltas", "checkpoints", "encoder") for path in (run / folder).glob(".*.*.*")]


def test_killed_while_a_delta_is_written(run: Path) -> None:
    seen = set()
    for point, copy in killed(run, append, 2):
        pending = log.pending(copy, 0)
        assert [each.last for each in pending] in ([1], [1, 2]), point
        for each in pending:
            each.check()
            assert same(rows_of(each, "item_id"), rows(each.last)), point
        seen.add(len(pending))
        if len(pending) == 1:
            append(copy, 2)
        catch_up(copy)
        assert numbers(copy) == {"checkpoint": 2, "ids": 2, "bundle": 2}, point
        assert not leftovers(copy), point
    assert seen == {1, 2}


def test_killed_while_it_is_applied(run: Path) -> None:
    append(run, 2)
    seen = set()
    for point, copy in killed(run, catch_up):
        state = numbers(copy)
        assert state.keys() == {"checkpoint", "ids", "bundle"} and set(state.values()) <= {1, 2}, point
        seen |= set(state.items())
        catch_up(copy)
        assert numbers(copy) == {"checkpoint": 2, "ids": 2, "bundle": 2}, point
        assert not leftovers(copy), point
    assert seen >= {("checkpoint", 1), ("checkpoint", 2), ("bundle", 1)}


def test_killed_while_deltas_are_compacted(run: Path) -> None:
    append(run, 2)
    seen = set()
    for point, copy in killed(run, compact):
        pending = log.pending(copy, 0)
        assert [(each.first, each.last) for each in pending] in ([(1, 1), (2, 2)], [(1, 2)]), point
        assert same(rows_of(pending[-1], "item_id"), rows(2)), point
        seen.add(len(pending))
        catch_up(copy)
        assert numbers(copy) == {"checkpoint": 2, "ids": 2, "bundle": 2}, point
        compact(copy)
        assert sorted(path.name for path in log.folder_of(copy).iterdir()) == ["00000001-00000002"], point
    assert seen == {1, 2}
