"""Checkpoint folders: which count, which is the newest and the best, what is pruned and swept."""

import json
import shutil
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.tables import folders, manifest
from recsys.tables.folders import Progress
from recsys.tables.places import FORMAT
from recsys.tables.version import Version

VERSION = Version("tables", "run")


def sealed(folder: Path, step: int, worse: int = 0, delta: int = 0) -> Path:
    """A checkpoint of a file and no tensors."""
    path = folders.place(folder, step, delta)
    partial = path.with_name(path.name + folders.PARTIAL)
    partial.mkdir(parents=True)
    (partial / "__0_0.distcp").write_bytes(b"tensors")
    folders.seal(partial, path, Progress(step, best_auc=0.5, worse=worse), Version("tables", "run", step, delta), {})
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("keep", "left"), [(0, [2]), (1, [2, 4]), (2, [2, 3, 4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4])])
def test_the_last_ones_and_the_best_are_kept(tmp_path: Path, keep: int, left: list[int]) -> None:
    for step, worse in ((1, 0), (2, 0), (3, 1), (4, 2)):
        sealed(tmp_path, step, worse)
    folders.prune(tmp_path, keep)
    assert names(tmp_path) == [f"step-{step:08d}" for step in left]
    assert folders.best(tmp_path).name == "step-00000002"
    latest = folders.latest(tmp_path)
    assert latest is not None and latest.name == f"step-{left[-1]:08d}"


def test_a_patched_one_stands_for_the_one_that_it_was_made_from(tmp_path: Path) -> None:
    for step, delta in ((400, 0), (400, 7), (400, 12), (800, 0)):
        sealed(tmp_path, step, delta=delta)
    assert [path.name for path in folders.whole(tmp_path)] == ["step-00000400.d00000012", "step-00000800"]
    assert folders.version_of(folders.whole(tmp_path)[0]) == Version("tables", "run", 400, 12)
    folders.prune(tmp_path, 2)
    assert names(tmp_path) == ["step-00000400.d00000012", "step-00000800"]
    shutil.rmtree(tmp_path / "step-00000800")
    assert folders.best(tmp_path) == folders.latest(tmp_path) == tmp_path / "step-00000400.d00000012"


def test_what_takes_the_place_of_a_whole_one_leaves_one_at_every_moment(tmp_path: Path) -> None:
    first = sealed(tmp_path, 5)
    first.rename(old := first.with_name(first.name + ".old"))  # killed between the two renames
    assert folders.latest(tmp_path) == old and folders.progress_of(old).step == 5
    assert sealed(tmp_path, 5) == folders.latest(tmp_path) == first
    sealed(tmp_path, 5)
    folders.prune(tmp_path, 1)
    assert names(tmp_path) == [first.name]


def test_what_a_crash_leaves_is_swept_and_what_is_damaged_is_passed_over(tmp_path: Path) -> None:
    kept = sealed(tmp_path, 1)
    (tmp_path / "step-00000002.partial").mkdir()
    (tmp_path / ".step-00000002.d00000001.99999999.tmp").mkdir()
    cut, missing, unsealed = sealed(tmp_path, 3), sealed(tmp_path, 4), sealed(tmp_path, 5)
    (cut / "__0_0.distcp").write_bytes(b"tensor")
    (missing / "__0_0.distcp").unlink()
    (unsealed / "manifest.json").unlink()
    told = sealed(tmp_path, 6) / "manifest.json"
    told.write_text(told.read_text().replace('"step": 6', '"step": 7', 1))
    assert folders.whole(tmp_path) == [kept] and folders.best(tmp_path) == kept
    folders.sweep(tmp_path)
    assert names(tmp_path) == [path.name for path in (kept, cut, missing, unsealed, told.parent)]


def test_a_checkpoint_of_another_version_is_neither_used_nor_passed_over_nor_removed(tmp_path: Path) -> None:
    sealed(tmp_path, 1)
    path = sealed(tmp_path, 2) / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2', 1))
    for look in (folders.latest, folders.best, lambda folder: folders.prune(folder, 1)):
        with pytest.raises(
            InputError, match="expected thawrec-checkpoint version 1, found thawrec-checkpoint version 2"
        ):
            look(tmp_path)
    folders.sweep(tmp_path)
    assert path.exists()


@pytest.mark.parametrize(
    ("key", "value"), [("progress", {"step": "many"}), ("progress", None), ("origin", {"step": 1})]
)
def test_what_a_sealed_manifest_tells_wrongly_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = sealed(tmp_path, 1)
    told = json.loads((path / "manifest.json").read_text())
    body = {name: told[name] for name in ("progress", "origin", "tensors")} | {key: value}
    manifest.write(path, FORMAT, told["files"], **body)
    with pytest.raises(InputError, match=rf"manifest\.json: {key} "):
        (folders.progress_of if key == "progress" else folders.version_of)(path)


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert folders.latest(tmp_path / "none") is None
    with pytest.raises(InputError, match="no trained checkpoint"):
        folders.best(tmp_path)
    with pytest.raises(InputError, match="not a whole checkpoint"):
        folders.progress_of(tmp_path)
