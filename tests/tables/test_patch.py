"""A checkpoint patched on disk against torch's own reading of it, whatever the sharding."""

import re
import shutil
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, manifest
from recsys.tables.checkpoint import Progress
from recsys.tables.patch import patch
from recsys.tables.places import FORMAT
from recsys.tables.rows import Rows
from recsys.tables.stored import tensors
from recsys.train import build, fitted
from tests.ranks import run_ranks
from tests.tables import saved
from tests.tables.changes import at_random, written

BASE = saved.VERSION
ROWS = [0, 2, 3, 11, 29]


@pytest.fixture(params=saved.SHARDINGS)
def source(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Path:
    """A checkpoint that may be patched."""
    path = saved.best(home, request.param)
    return shutil.copytree(path, tmp_path / "checkpoints" / path.name)


def by_torch(path: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint as torch's own reader gives it, without a process group."""
    state = {name: torch.empty(place.size) for name, place in tensors(path).items()}
    dcp.load(state, checkpoint_id=path, no_dist=True)
    return state


def item(state: dict[str, Tensor], name: str = "item_id") -> tuple[Tensor, Tensor]:
    """A table and its optimizer state."""
    return next(value for key, value in state.items() if key.endswith(f"{name}.weight")), state[f"rows.{name}"]


def test_the_rows_named_and_no_others_are_changed(source: Path, tmp_path: Path) -> None:
    before = by_torch(source)
    first, second = at_random(1, ROWS, dim=saved.DIM), at_random(2, [3, 4], dim=saved.DIM)
    genres = at_random(3, [1], dim=saved.DIM)
    deltas = [
        written(tmp_path / "1", {"item_id": first}, 1, BASE, saved.DIM),
        written(tmp_path / "2", {"item_id": second, "genres": genres}, 2, BASE, saved.DIM),
    ]
    made = patch(source, deltas)
    assert made.name == "step-00000007.d00000002" and not source.exists()
    assert checkpoint.latest(made.parent) == made == checkpoint.best(made.parent)
    assert checkpoint.version_of(made) == replace(BASE, delta=2)
    assert checkpoint.progress_of(made) == Progress(step=7, best_auc=0.5)
    manifest.verify(made, FORMAT)
    after = by_torch(made)
    for name, rows in {"item_id": first | second, "genres": genres}.items():
        weight, sums = item(before, name)
        for row, (_, vector, state) in rows.items():
            weight[row], sums[row] = vector, state
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_every_archive_has_the_checksum_of_its_bytes(source: Path, tmp_path: Path) -> None:
    made = patch(source, [written(tmp_path / "1", {"item_id": at_random(1, ROWS, dim=saved.DIM)}, 1, BASE, saved.DIM)])
    checked = 0
    for place in tensors(made).values():
        for chunk in place.chunks:
            raw = (made / chunk.file).read_bytes()[chunk.offset : chunk.offset + chunk.length]
            with zipfile.ZipFile(BytesIO(raw)) as archive:
                assert archive.testzip() is None
            checked += 1
    assert checked > 20


def test_once_is_as_good_as_twice(source: Path, tmp_path: Path) -> None:
    deltas = [
        written(tmp_path / str(k), {"item_id": at_random(k, [k], dim=saved.DIM)}, k, BASE, saved.DIM) for k in (1, 2)
    ]
    made = patch(source, deltas[:1])
    assert patch(made, deltas[:1]) == made
    again = patch(made, deltas)
    assert again.name == "step-00000007.d00000002" and not made.exists()
    whole = by_torch(again)
    assert patch(again, deltas) == again and patch(again, deltas[:1]) == again
    assert all(torch.equal(value, whole[name]) for name, value in by_torch(again).items())


def load(made: object, path: Path) -> tuple[Tensor, Tensor]:
    """Item rows and their state in a live model that was loaded from a checkpoint."""
    with process_group() as ranks:
        sharded = build(made, fitted(made, ranks), ranks)  # type: ignore[arg-type]
        checkpoint.load(path, sharded)
        return Rows(sharded, ranks).read("item_id", torch.tensor(ROWS))


def test_a_live_model_loads_it_with_its_optimizer_state(home: Path, tmp_path: Path) -> None:
    path = saved.best(home, "column_wise")
    source = shutil.copytree(path, tmp_path / "checkpoints" / path.name)
    rows = at_random(1, ROWS, dim=saved.DIM)
    made = patch(source, [written(tmp_path / "1", {"item_id": rows}, 1, BASE, saved.DIM)])
    for vectors, state in run_ranks(2, load, saved.config(home, "row_wise"), made):
        assert torch.equal(vectors, torch.stack([rows[row][1] for row in ROWS]))
        torch.testing.assert_close(state, torch.tensor([rows[row][2] for row in ROWS]))


def test_what_does_not_fit_changes_nothing(home: Path, tmp_path: Path) -> None:
    path = saved.best(home, "row_wise")
    source = shutil.copytree(path, tmp_path / "checkpoints" / path.name)
    bytes_before = {file.name: file.read_bytes() for file in source.iterdir()}
    good = {1: at_random(1, [1], dim=saved.DIM)[1]}
    wrong = {
        "it has rows 0 to": {"item_id": at_random(1, [100_000], dim=saved.DIM)},
        "expected width 256, found 8": {"item_id": at_random(1, [1])},
        "it has no table nothing": {"nothing": good},
    }
    for k, (said, tables) in enumerate(wrong.items()):
        bad = written(tmp_path / f"bad {k}", tables, 2, BASE, 8 if "width" in said else saved.DIM)
        first = written(tmp_path / f"good {k}", {"item_id": good}, 1, BASE, saved.DIM)
        with pytest.raises(InputError, match=said):
            patch(source, [first, bad])
    cases = {
        "expected 1 next": (3, BASE),
        "rows of lineage other": (1, replace(BASE, lineage="other")),
        "made for the training run other": (1, replace(BASE, dense="other")),
    }
    for k, (said, (number, base)) in enumerate(cases.items()):
        with pytest.raises(InputError, match=said):
            patch(source, [written(tmp_path / f"order {k}", {"item_id": good}, number, base, saved.DIM)])
    assert {file.name: file.read_bytes() for file in source.iterdir()} == bytes_before
    assert [each.name for each in source.parent.iterdir()] == [source.name]
    other = written(tmp_path / "forced", {"item_id": good}, 1, replace(BASE, dense="other"), saved.DIM)
    assert patch(source, [other], force=True).name.endswith(".d00000001")


def test_a_damaged_checkpoint_is_not_patched(home: Path, tmp_path: Path) -> None:
    path = saved.best(home, "row_wise")
    source = shutil.copytree(path, tmp_path / "checkpoints" / path.name)
    each = written(tmp_path / "1", {"item_id": at_random(1, [1], dim=saved.DIM)}, 1, BASE, saved.DIM)
    file = next(source.glob("*.distcp"))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(InputError, match=r"distcp: damaged"):
        patch(source, [each])
    assert np.frombuffer(file.read_bytes(), np.uint8).sum() == np.frombuffer(raw, np.uint8).sum()


def test_rows_made_long_ago_are_taken_with_a_warning(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved.best(home, "row_wise")
    source = shutil.copytree(path, tmp_path / "checkpoints" / path.name)
    each = written(tmp_path / "1", {"item_id": at_random(1, [1], dim=saved.DIM)}, 1, BASE.at(1), saved.DIM)
    patch(source, [each], stale=5)
    assert re.search(r"rows made for step 1 go to .*, which is at step 7", caplog.text)
