"""Commands of a record: done once, resumed after a failure, done again where their config changed."""

from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.records.steps import Steps


def command(tmp_path: Path, text: str) -> str:
    """A command that appends `text` to a file; it fails as long as there is a file named after it."""
    log, flag = str(tmp_path / "told"), str(tmp_path / text)
    code = f"import os; open({log!r}, 'a').write({text!r}); os.path.exists({flag!r}) and exit(3)"
    return f'python -c "{code}"'


def told(tmp_path: Path) -> str:
    return (tmp_path / "told").read_text()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    steps, commands = Steps(tmp_path / "records"), [command(tmp_path, text) for text in "abc"]
    (tmp_path / "b").touch()
    with pytest.raises(InputError, match=r"ended with status 3; see .*one\.log"):
        steps.run("one", commands)
    assert told(tmp_path) == "ab"
    (tmp_path / "b").unlink()
    seconds = Steps(tmp_path / "records").run("one", commands)
    assert told(tmp_path) == "abbc"
    assert Steps(tmp_path / "records").run("one", commands) == pytest.approx(seconds, abs=0.2)
    assert told(tmp_path) == "abbc"
    steps.run("one", commands, again=True)
    assert told(tmp_path) == "abbcabc"
    assert (tmp_path / "records" / "one.log").read_text().count("$ python") == 7


def test_a_line_that_a_crash_cut_off_is_a_command_not_done(tmp_path: Path) -> None:
    steps, commands = Steps(tmp_path), [command(tmp_path, text) for text in "ab"]
    steps.run("one", commands)
    whole = steps.journal.read_text()
    steps.journal.write_text(whole[:-5])
    steps.run("one", commands)
    assert told(tmp_path) == "abb"
    steps.run("one", commands)
    assert told(tmp_path) == "abb"


def test_what_follows_a_changed_command_is_done_again(tmp_path: Path) -> None:
    first, second, last = (command(tmp_path, text) for text in "abc")
    Steps(tmp_path).run("one", [first, last])
    Steps(tmp_path).run("one", [second, last])
    assert told(tmp_path) == "acbc"


def test_again_removes_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text("run: runs/own")
    Path("over.yaml").write_text("run: runs/over")
    for name in ("own", "over", "other", "kept"):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
    asked = [
        "some.yaml",
        "some.yaml train.lr=1 run=runs/other",
        "some.yaml --split test run=runs/other",
        "some.yaml over.yaml",
    ]
    commands = [f"torchrun --nproc-per-node 2 -m tools.train {words}" for words in asked]
    commands.append("python -m tools.evaluate some.yaml run=runs/kept --scores base=x")
    monkeypatch.setattr(Steps, "_launch", lambda self, record, command: 1.0)
    assert Steps(tmp_path).run("one", commands, again=True) == 5.0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["kept"]


def test_a_changed_config_is_another_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text("run: a")
    asked = [command(tmp_path, "x") + " some.yaml"]
    for text in ("run: a", "run: a", "run: b"):
        Path("some.yaml").write_text(text)
        Steps(tmp_path).run("one", asked)
    assert told(tmp_path) == "xx"
