import os
from pathlib import Path

import pytest

from recsys.files import replacing


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file"]


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("a", "b"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert os.listdir(path) == ["b"] and os.listdir(tmp_path) == ["folder"]


def dead_process() -> int:
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    return dead


def test_a_directory_whose_replacing_was_killed_halfway_comes_back(tmp_path: Path) -> None:
    path, dead = tmp_path / "folder", dead_process()
    for kind in ("old", "tmp"):
        left = tmp_path / f".folder.{dead}.{kind}"
        left.mkdir()
        (left / kind).write_text(kind)
    with pytest.raises(OSError, match="full"), replacing(path):
        raise OSError("disk full")
    assert os.listdir(path) == ["old"] and os.listdir(tmp_path) == ["folder"]


def test_everything_in_a_directory_is_flushed_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    with replacing(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "file").write_text("x")
    names = ("folder/deep/file", "folder/deep", "folder")
    assert {(tmp_path / name).stat().st_ino for name in names} <= set(flushed[:-1])
    assert flushed[-1] == tmp_path.stat().st_ino


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    dead = dead_process()
    (tmp_path / f".file.{dead}.tmp").mkdir()
    (tmp_path / f".file.{os.getppid()}.tmp").write_text("of a living process")
    (tmp_path / ".file.notes").write_text("of nobody")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted([f".file.{os.getppid()}.tmp", ".file.notes", "file"])
