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


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    (tmp_path / f".file.{dead}.tmp").mkdir()
    (tmp_path / f".file.{os.getppid()}.tmp").write_text("of a living process")
    (tmp_path / ".file.notes").write_text("of nobody")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted([f".file.{os.getppid()}.tmp", ".file.notes", "file"])
