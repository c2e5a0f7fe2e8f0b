"""Steps are done once, again when an input changes, and after any interruption as if there had been none."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.pipeline.run import run, show
from recsys.pipeline.steps import Command
from tests.pipeline import toys
from tests.pipeline.toys import step, told

RUN = Path("run")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    toys.write()
    yield


def line(**values: str) -> list[Command]:
    """Raw data, a table, scores by it, a change of the table's log, another reader, and two that share a file."""
    return [
        step("prepare", "raw", "data", values.get("prepare", "")),
        step("train", "data", "table,log", values.get("train", ""), anew="table,log"),
        step("predict", "data,table,log", "scores", values.get("predict", "")),
        step("simulate", "data,table", "rows,log", values.get("simulate", "")),
        step("evaluate", "scores", "results", values.get("evaluate", "")),
        step("evaluate-rows", "rows", "results", values.get("evaluate-rows", "")),
        step("export", "table,log", "bundle", values.get("export", "")),
    ]


NAMES = [each.name for each in line()]


def test_what_is_done_is_not_done_again() -> None:
    run(RUN, line())
    assert told() == NAMES
    run(RUN, line())
    assert told() == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("export", ["export"]),
        ("evaluate", ["evaluate", "evaluate-rows"]),
        ("evaluate-rows", ["evaluate-rows"]),
        ("simulate", ["simulate", "evaluate-rows", "export"]),
        ("train", NAMES[1:]),
    ],
)
def test_a_changed_value_reruns_what_depends_on_it(changed: str, expected: list[str]) -> None:
    run(RUN, line())
    told()
    run(RUN, line(**{changed: "other"}))
    assert told() == expected
    run(RUN, line(**{changed: "other"}))
    assert told() == []


def test_a_step_that_needs_what_was_changed_since_has_it_made_again() -> None:
    """Scores of the trained table must not be made of the table that simulated rows have gone into."""
    run(RUN, line())
    told()
    run(RUN, line(predict="other"))
    assert told() == NAMES[1:-1]  # and the log is again as it was exported
    assert Path("scores").read_text().count("simulate") == 0


def test_what_one_step_has_begun_anew_stays_for_another_that_shares_it() -> None:
    def both(raw: str) -> list[Command]:
        shared = (step("one", "data", "one,net", anew="net"), step("two", "data", "two", anew="net"))
        return [step("prepare", "raw", "data", raw), *shared]

    run(RUN, both("first"))
    assert told() == ["prepare", "one", "two"]
    run(RUN, both("other"))
    assert told() == ["prepare", "one", "two"] and Path("net").exists()


def test_what_a_step_that_is_left_out_has_begun_from_other_inputs_does_not_stay() -> None:
    both = [step("one", "raw", "one,net", anew="net"), step("two", "raw", "two", anew="net")]
    run(RUN, both)
    Path("raw").write_text("other")
    run(RUN, both, first="two")
    assert told() == ["one", "two", "two"] and not Path("net").exists()


def test_a_step_that_leaves_what_was_there_ends_it() -> None:
    run(RUN, line())
    told()
    Path("data").touch()  # another time, the same bytes
    Path("bundle").unlink()
    run(RUN, line())
    assert told() == ["export"]
    Path("scores").write_text("mine")
    run(RUN, line())
    assert told() == ["train", "predict", "simulate"]


@pytest.mark.parametrize("changed", [{}, {"train": "other"}, {"simulate": "other"}])
def test_interrupted_in_any_step_it_ends_as_if_it_had_not_been(changed: dict[str, str], tmp_path: Path) -> None:
    expected = _results(tmp_path / "whole", changed)
    for name in told():
        assert _results(tmp_path / name, changed, f"kill-{name}") == expected
        assert told()[0] == name


def _results(home: Path, changed: dict[str, str], kill: str = "") -> dict[str, str]:
    """What is there in the end: all is done, something changes, and in the midst of what follows comes a kill."""
    home.mkdir()
    os.chdir(home)
    toys.write()
    if changed:
        run(RUN, line())
        told()
    if kill:
        Path(kill).touch()
        _run_and_be_killed(line(**changed))
        told()
    run(RUN, line(**changed))
    return {path: Path(path).read_text() for path in ("table", "log", "scores", "rows", "results", "bundle")}


def _run_and_be_killed(steps: list[Command]) -> None:
    child = os.fork()
    if not child:
        try:
            run(RUN, steps)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_a_failed_step_is_named_with_its_command_and_log() -> None:
    Path("fail-simulate").touch()
    with pytest.raises(
        InputError, match=r"^simulate: python toy\.py simulate .* status 1; see run/pipeline/simulate\.log$"
    ):
        run(RUN, line())
    assert "no heart for it" in Path("run/pipeline/simulate.log").read_text()
    Path("fail-simulate").unlink()
    told()
    run(RUN, line())
    assert told() == NAMES[3:]


def test_from_does_it_again_and_until_ends_there() -> None:
    with pytest.raises(InputError, match="prepare has not been done: begin there, by --from prepare"):
        run(RUN, line(), first="train")
    run(RUN, line(), until="predict")
    assert told() == NAMES[:3]
    run(RUN, line(), first="predict", until="simulate")
    assert told() == ["predict", "simulate"]
    with pytest.raises(InputError, match="train: predict needs log as it was then: begin there, by --from train"):
        run(RUN, line(), first="predict")
    with pytest.raises(InputError, match="no such step; did you mean 'predict'"):
        run(RUN, line(), until="predikt")
    with pytest.raises(InputError, match="comes before"):
        run(RUN, line(), first="export", until="train")
    told()
    run(RUN, line())
    assert told() == NAMES[4:]


def test_a_dry_run_says_what_would_run_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    run(RUN, line())
    told()
    Path("raw").write_text("other")
    capsys.readouterr()
    show(RUN, line(export="other"))
    assert told() == []
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "1/7 prepare: would run: raw is not what it read"
    assert out[2] == "2/7 train: would run: data is made again by prepare"
    assert out[1] == "    python toy.py prepare - raw data"
    assert "7/7 export: would run: value was -, is other" in out


def test_the_last_words_of_a_step_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(RUN, line()[:1])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "1/1 prepare: python toy.py prepare - raw data"
    assert out[1].endswith(" s. prepare has said its last")
    assert out[2] == "1 steps done, 0 of them before"
