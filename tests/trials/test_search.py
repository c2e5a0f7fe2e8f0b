"""A search asks its default first, learns, and comes to the same whether or not it was interrupted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.config_search import Range, Space
from recsys.errors import InputError
from recsys.trials import suggest as suggest_module
from recsys.trials.search import Asked, Plan, Search, Trial, digest, run
from recsys.trials.space import Params, inside
from recsys.trials.suggest import STARTUP, suggest

SPACE: Space = {
    "rate": Range(low=0.001, high=1.0, log=True),
    "width": Range(low=4, high=64, step=4),
    "layers": [[64], [64, 32], []],
}
DEFAULT: Params = {"rate": 0.001, "width": 64, "layers": [64]}


def plan(budget: int, **changes: Any) -> Plan:
    given: dict[str, Any] = {"system": "toy", "space": SPACE, "default": DEFAULT, "budget": budget, "key": digest}
    return Plan(**{**given, **changes})


def toy(params: Params) -> float:
    """Best at a rate of 0.1, a width of 16 and no layer."""
    far = abs(params["rate"] - 0.1) + abs(params["width"] - 16) / 64 + len(params["layers"])
    if params["width"] == 32:
        raise InputError("a width of 32 is bad luck")
    return 1.0 - far


def go(search: Search, train: Callable[[Params], float] = toy) -> list[Trial]:
    run(search.ask, train, search.tell)
    return search.trials


def test_it_finds_what_is_better_than_its_default_and_than_chance(tmp_path: Path) -> None:
    search = Search(plan(40), tmp_path / "trials.jsonl")
    trials = go(search)
    assert trials[0].params == DEFAULT and len(trials) == 40
    best = search.ranked()[0]
    value = best.value
    assert value is not None and value > toy(DEFAULT) + 0.5 and best.params["layers"] == []
    # What was learnt: most late trials have the best layers, of which random ones would have a third.
    assert sum(trial.params["layers"] == [] for trial in trials[20:]) > 11
    assert len({json.dumps(trial.params) for trial in trials}) == 40
    for trial in trials[1:]:
        assert inside(SPACE, trial.params).keys() == SPACE.keys()


def without_seconds(trials: list[Trial]) -> list[tuple[Params, float | None, str]]:
    return [(trial.params, trial.value, trial.failed) for trial in trials]


@pytest.mark.parametrize("killed_in", [1, 4, STARTUP + 3])
def test_a_search_that_was_killed_ends_like_one_that_was_not(tmp_path: Path, killed_in: int) -> None:
    whole = go(Search(plan(14), tmp_path / "whole.jsonl"))
    path = tmp_path / "trials.jsonl"
    trained: list[Params] = []

    def dies(params: Params) -> float:
        if len(trained) == killed_in:
            raise KeyboardInterrupt
        trained.append(params)
        return toy(params)

    with pytest.raises(KeyboardInterrupt):
        go(Search(plan(14), path), dies)
    with path.open("a") as out:
        out.write('\n{"search": "cut o')  # a crash in the middle of a line

    def goes_on(params: Params) -> float:
        trained.append(params)
        return toy(params)

    assert without_seconds(go(Search(plan(14), path), goes_on)) == without_seconds(whole)
    assert trained == [trial.params for trial in whole]
    # A larger budget goes on from there, and nothing is left to do under a smaller one.
    assert without_seconds(go(Search(plan(16), path), goes_on))[:14] == without_seconds(whole)
    assert len(trained) == 16
    smaller = Search(plan(9), path)
    assert smaller.ask() is None and without_seconds(smaller.trials) == without_seconds(whole)[:9]


def test_another_seed_or_space_is_another_search_that_knows_what_was_trained(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    first = go(Search(plan(4), path))
    second = go(Search(plan(4, seed=1), path), lambda params: toy(params) if params != DEFAULT else float("nan"))
    assert second[0].value == first[0].value  # not trained again
    assert [trial.params for trial in second[1:]] != [trial.params for trial in first[1:]]
    assert len(Search(plan(4), path).trials) == 4


def test_a_trial_that_fails_is_told_of_and_the_search_goes_on(tmp_path: Path) -> None:
    space: Space = {"width": [16, 32, 48], "layers": [[]], "rate": [0.1]}
    default = {"width": 16, "layers": [], "rate": 0.1}
    search = Search(plan(9, space=space, default=default), tmp_path / "trials.jsonl")
    trials = go(search)
    # Three configurations are all that there are.
    assert sorted(trial.params["width"] for trial in trials) == [16, 32, 48]
    (failed,) = [trial for trial in trials if trial.failed]
    assert (failed.params["width"], failed.value, failed.failed) == (32, None, "a width of 32 is bad luck")
    assert [trial.params["width"] for trial in search.ranked()] == [16, 48]


def test_values_that_their_keys_refuse_fail_and_the_search_goes_on(tmp_path: Path) -> None:
    def key(params: Params) -> str:
        if params["width"] % 4:
            raise InputError(f"width {params['width']}: expected a multiple of 4")
        return digest(params)

    space: Space = {"width": Range(low=8, high=12)}
    asked = plan(5, space=space, default={"width": 8}, key=key)
    trained: list[int] = []

    def train(params: Params) -> float:
        trained.append(params["width"])
        return 0.5

    trials = go(Search(asked, tmp_path / "trials.jsonl"), train)
    assert sorted(trained) == [8, 12] and sorted(trial.params["width"] for trial in trials) == [8, 9, 10, 11, 12]
    assert {trial.failed for trial in trials if trial.value is None} == {
        f"width {width}: expected a multiple of 4" for width in (9, 10, 11)
    }
    assert Search(asked, tmp_path / "trials.jsonl").ask() is None


def test_what_fails_on_some_ranks_alone_ends_the_search(tmp_path: Path) -> None:
    search = Search(plan(30), tmp_path / "trials.jsonl")
    with pytest.raises(InputError, match="bad luck"):
        run(search.ask, toy, search.tell, lambda asked: False)


def test_a_trial_that_ends_the_process_twice_has_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    space: Space = {"width": [16, 32, 48]}
    asked = plan(3, space=space, default={"width": 16})

    def dies(params: Params) -> float:
        if params["width"] == 32:
            raise MemoryError
        return 0.5

    path = tmp_path / "trials.jsonl"
    for _ in range(2):
        with pytest.raises(MemoryError):
            go(Search(asked, path), dies)
    trials = go(Search(asked, path), dies)
    assert {trial.params["width"]: trial.value for trial in trials} == {16: 0.5, 32: None, 48: 0.5}
    (failed,) = [trial.failed for trial in trials if trial.failed]
    assert "ended the process twice" in failed
    assert Search(asked, path).ask() is None


def test_the_default_may_be_killed_as_often_as_it_is_and_older_journals_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"

    def dies(params: Params) -> float:
        raise MemoryError

    for _ in range(3):
        with pytest.raises(MemoryError):
            go(Search(plan(2), path), dies)
    whole = go(Search(plan(6), path))
    older = tmp_path / "older.jsonl"
    older.write_text("\n".join(line for line in path.read_text().splitlines() if '"begun"' not in line))
    assert older.read_text() != path.read_text() and Search(plan(6), older).trials == whole


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_fails_and_the_default_may_not(tmp_path: Path, value: float) -> None:
    path = tmp_path / "trials.jsonl"
    with pytest.raises(InputError, match="no value to compare trials by: expected a finite number"):
        go(Search(plan(3), path), lambda params: value)
    assert not path.exists()
    trials = go(Search(plan(3), path), lambda params: 0.5 if params == DEFAULT else value)
    assert [trial.value for trial in trials] == [0.5, None, None]


def test_what_is_small_can_be_wanted(tmp_path: Path) -> None:
    search = Search(plan(25, maximise=False), tmp_path / "trials.jsonl")
    trials = go(search, lambda params: -toy({**params, "width": 16}))
    best = search.ranked()[0].value
    assert best is not None and best == min(trial.value for trial in trials if trial.value is not None)
    assert best < -toy(DEFAULT) - 0.5


def test_a_default_that_the_space_does_not_have_is_first_and_teaches_what_it_can() -> None:
    default = {"rate": 5.0, "width": 6, "layers": [128]}
    assert inside(SPACE, default) == {}
    assert inside(SPACE, {"rate": 0.5, "width": 8, "layers": [64, 32]}) == {
        "rate": 0.5,
        "width": 8,
        "layers": "[64, 32]",
    }
    found = suggest(SPACE, [(default, 0.1)] * STARTUP, seed=3)
    assert found is not None and inside(SPACE, found).keys() == SPACE.keys()


@pytest.mark.parametrize(
    ("space", "size"),
    [
        ({"one": list(range(12))}, 12),
        ({"a": [1, 2, 3], "b": [[8], [4, 4]], "c": ["x", "y", "z"]}, 18),
        ({"whole": Range(low=1, high=9, step=2), "part": Range(low=0.1, high=0.5, step=0.1)}, 25),
        ({"whole": Range(low=2, high=8, log=True), "part": Range(low=0.0, high=1.0, step=0.4)}, 21),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_small_space_is_used_up(space: Space, size: int, seed: int) -> None:
    asked: list[tuple[Params, float | None]] = []
    while (params := suggest(space, asked, seed)) is not None:
        assert inside(space, params).keys() == space.keys()
        # One value far above the others, which the estimator clings to.
        asked.append((params, 1.0 / (1 + len(asked)) ** 3))
    assert len({json.dumps(params) for params, _ in asked}) == len(asked) == size


def test_a_space_too_large_to_be_listed_has_another_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest_module, "_REPEATS", 0)
    space: Space = {"width": Range(low=1, high=5000), "rate": Range(low=0.0, high=1.0)}
    first = suggest(space, [], seed=0)
    assert first is not None and first == suggest(space, [], seed=0) != suggest(space, [(first, 0.1)], seed=0)


def test_numbers_are_drawn_as_they_are_printed() -> None:
    asked: list[tuple[Params, float | None]] = []
    for _ in range(6):
        params = suggest({"rate": Range(low=0.12345, high=0.12355), "count": Range(low=1, high=3)}, asked, seed=1)
        assert params is not None and 0.12345 <= params["rate"] <= 0.12355 and params["count"] in (1, 2, 3)
        assert len(str(params["rate"])) <= len("0.123456")
        asked.append((params, 0.0))


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"search": 1}\n')
    with pytest.raises(InputError, match=r"not a journal of trials: .*; remove it to search anew"):
        Search(plan(1), path)


def test_what_is_asked_is_numbered(tmp_path: Path) -> None:
    search = Search(plan(2), tmp_path / "trials.jsonl")
    assert search.ask() == Asked(0, DEFAULT) == search.ask()
    search.tell(Asked(0, DEFAULT), 0.5, 1.0)
    asked = search.ask()
    assert asked is not None and asked.number == 1
