"""The funnel over the tiny dataset with a tiny real judge: its rows, ranks, rounds, a kill in the middle."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from recsys.config import Config
from recsys.config_simulator import Retrieve
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.evaluate.vectors import read_vectors
from simulator import funnel, judge, retrieve, simulated
from simulator.population import Population
from tests import tiny
from tests.ranks import RanksFailed, run_ranks
from tests.simulator.funnels import Recorder, config, filtered, play, play_each, questions
from tests.simulator.models import FILM
from tests.simulator.servers import Brain, running

CPU = torch.device("cpu")
ONE = np.zeros((1, 2), np.int64)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a filter."""
    path = tmp_path_factory.mktemp("funnel")
    tiny.write(path / "data")
    filtered(path)
    return path


def rows(folder: Path) -> pd.DataFrame:
    return simulated.read(folder).to_pandas()


def test_candidates_are_those_of_brute_force_and_rounds_end_when_enough_qualify(home: Path, folder: Path) -> None:
    made = config(home, folder, name="plain")
    found = rows(play(made))
    about = simulated.read_about(simulated.folder_of(made))
    assert about.refining is not None and about.items == tiny.NEW and about.left_out == 0
    least = about.refining.threshold["value"]
    people = Population.read(home / "data")
    vectors = read_vectors(home / "run" / "simulator" / "filter", people.users, people.items)
    scores = vectors.users @ vectors.items[people.cold].T
    assert found["item_id"].tolist() == np.repeat(people.items.take(people.cold).to_pylist(), 12).tolist()
    for k, (_, one) in enumerate(found.groupby("item_id")):
        best = np.argsort(-scores[:, k], kind="stable")[:12]
        assert one["user_id"].tolist() == people.users.take(best).to_pylist()
        np.testing.assert_allclose(one["filter"], scores[best, k], rtol=1e-5)
        assert (one["qualified"] == (one["yes"] >= least)).all()
        qualified = one["qualified"].to_numpy().reshape(4, 3).sum(axis=1).cumsum()
        asked = 3 * (1 + (qualified[:-1] < 4).sum())  # rounds of 3, until 4 qualify
        assert one["yes"].notna().tolist() == [True] * asked + [False] * (12 - asked)
    asked = found["yes"].notna()
    assert about.refining.judged + about.refining.known == asked.sum() and about.refining.judged > 40
    assert about.refining.adoption == pytest.approx(found["qualified"].sum() / asked.sum(), abs=1e-4)


@pytest.mark.parametrize("context", ["group", "item", "random"])
def test_an_answer_is_the_judges_to_the_history_and_the_text(
    home: Path, folder: Path, tmp_path: Path, context: str
) -> None:
    """Of users whose whole history is shown: each item where it comes last, the oldest first."""
    made = config(home, folder, name=context, journal=str(tmp_path / "judged"), context=context, threshold=0.5)
    found = rows(play(made)).dropna()
    people, one = Population.read(home / "data"), judge.load(made.simulator, CPU)
    users, items = people.users.to_pylist(), people.items.to_pylist()
    compared = 0
    for user, item, yes in zip(found["user_id"], found["item_id"], found["yes"], strict=True):
        code = users.index(user)
        taken = [items[k] for k in people.taken.slice(code, code + 1).values]
        history = [name for k, name in enumerate(taken) if name not in taken[k + 1 :]]
        if len(history) <= FILM.history:
            compared += 1
            assert abs(one.score([history], [item], ONE)[0] - yes) < 1e-5
    assert compared > 10


def test_two_ranks_find_what_one_does(home: Path, folder: Path, tmp_path: Path) -> None:
    made = [
        config(home, folder, name=name, items=items, journal=str(tmp_path / name))
        for name, items in (("two", None), ("few", 1))
    ]
    [folders, _] = run_ranks(2, play_each, made, tmp_path / "log")
    two, few = map(rows, folders)
    alone = rows(play(config(home, folder, name="alone", journal=str(tmp_path / "alone"))))
    pd.testing.assert_frame_equal(two, alone, rtol=1e-5)
    same = alone["item_id"] == few["item_id"][0]
    pd.testing.assert_series_equal(few["user_id"], alone["user_id"][same].reset_index(drop=True))
    assert few["yes"].notna().any()


def test_two_ranks_with_a_server_each_find_what_one_finds_in_process(home: Path, folder: Path, tmp_path: Path) -> None:
    brain = Brain(folder)
    with running(brain) as first, running(brain) as second:
        urls = [first.url, second.url]
        made = config(home, folder, name="served", journal=str(tmp_path / "served"))
        asked = replace(made.simulator.judge, backend="vllm", endpoints=urls)
        made = replace(made, simulator=replace(made.simulator, judge=asked))
        served = rows(run_ranks(2, play, made)[0])
        assert first.answered and second.answered and not {*first.answered} & {*second.answered}
    alone = rows(play(config(home, folder, name="in-process", journal=str(tmp_path / "in-process"))))
    pd.testing.assert_frame_equal(served, alone, rtol=1e-5, atol=1e-6)


def test_without_refining_the_first_candidates_qualify(home: Path, folder: Path) -> None:
    with process_group() as ranks:
        found = rows(funnel.play(config(home, folder, name="filter-only", refine=False), None, ranks))
    assert found["yes"].isna().all()
    assert found["qualified"].tolist() == ([True] * 4 + [False] * 8) * tiny.NEW


def test_random_users_are_all_users_alike_and_an_items_are_its_own(home: Path, folder: Path) -> None:
    given = {"users": "random", "refine": False, "qualified": 12}
    every = rows(play(config(home, folder, name="random", **given)))
    assert not every.duplicated(["user_id", "item_id"]).any()
    some = rows(play(config(home, folder, name="random", items=2, **given)))
    both = every[every["item_id"].isin(some["item_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, some)
    other = rows(play(config(home, folder, name="random", seed=1, **given)))
    assert (other["user_id"] != every["user_id"]).mean() > 0.5


def killed(made: Config, log: Path) -> None:
    """Simulate, and die by SIGKILL when the judge has been asked for the third time."""
    torch.set_num_threads(1)

    class Dying(Recorder):
        calls = 0

        def score(self, *given: Any) -> NDArray[np.float32]:
            Dying.calls += 1
            if Dying.calls == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().score(*given)

    with process_group() as ranks:
        funnel.play(made, Dying(judge.load(made.simulator, ranks.device), log.with_suffix(".0")), ranks)


def test_a_killed_run_asks_nothing_twice(home: Path, folder: Path, tmp_path: Path) -> None:
    whole = rows(play(config(home, folder, name="whole", journal=str(tmp_path / "other")), tmp_path / "whole"))
    made = config(home, folder, name="killed", journal=str(tmp_path / "judged"))
    with pytest.raises(RanksFailed, match=r"exit code -9"):
        run_ranks(1, killed, made, tmp_path / "log")
    before = questions(tmp_path / "log")
    assert 8 <= len(before) <= 16
    found = rows(play(made, tmp_path / "log"))
    after = questions(tmp_path / "log")
    assert after[: len(before)] == before and len(set(after)) == len(after)
    assert sorted(after) == sorted(questions(tmp_path / "whole"))
    pd.testing.assert_frame_equal(found, whole, rtol=1e-5)
    again = rows(play(config(home, folder, name="variant", journal=str(tmp_path / "judged")), tmp_path / "log"))
    assert questions(tmp_path / "log") == after
    pd.testing.assert_frame_equal(again, found)


def test_what_was_made_from_a_simulation_goes_with_it_and_stays_where_it_comes_out_the_same(
    home: Path, folder: Path, tmp_path: Path
) -> None:
    made = config(home, folder, name="again", journal=str(tmp_path / "judged"), threshold=0.5)
    learned = play(made) / "learned"
    learned.touch()
    about = simulated.read_about(learned.parent)
    assert play(made) == learned.parent and learned.exists()
    assert simulated.read_about(learned.parent) == about and about.refining is not None and about.refining.judged > 0
    play(config(home, folder, name="again", journal=str(tmp_path / "judged"), threshold=0.4))
    assert not learned.exists()


def failing(made: Config) -> list[str]:
    """What each rank is told where the judge of the second fails."""
    torch.set_num_threads(1)
    with process_group() as ranks:
        inner = judge.load(made.simulator, ranks.device)

        class Failing(Recorder):
            def score(self, *given: Any) -> NDArray[np.float32]:
                if ranks.rank == 1:
                    raise InputError("endpoint: gone")
                return super().score(*given)

        try:
            funnel.play(made, Failing(inner, Path(os.devnull)), ranks)
        except InputError as error:
            return [type(error).__name__, str(error)]
    return []


def test_a_judge_that_fails_on_one_rank_ends_all_and_what_the_others_asked_is_kept(
    home: Path, folder: Path, tmp_path: Path
) -> None:
    made = config(home, folder, name="failed", journal=str(tmp_path / "judged"), threshold=0.5)
    said = run_ranks(2, failing, made)
    assert said == [["InputError", "endpoint: gone"], ["RelayedError", "endpoint: gone"]]
    assert len(list((tmp_path / "judged").glob("part-*"))) > 1
    assert not simulated.folder_of(made).exists()


def test_what_cannot_be_simulated_is_refused(home: Path, folder: Path, tmp_path: Path) -> None:
    made = config(home, folder, name="none")
    told = replace(made.simulator, prompt=replace(made.simulator.prompt, template="{device}"))
    with pytest.raises(InputError, match=r"items\.parquet: expected a column of device"):
        play(replace(made, simulator=told))
    with pytest.raises(InputError, match=r"expected vectors in user_id"):
        play(replace(made, run=str(tmp_path)))
    shutil.copytree(home / "run" / "simulator" / "filter", tmp_path / "simulator" / "filter")
    retrieve.write(retrieve.build(np.ones((3, 5), np.float32), Retrieve()), tmp_path / "simulator/filter/users.faiss")
    with pytest.raises(InputError, match=r"users\.faiss: expected \d+ users by 5 values, found 3 by 5"):
        play(replace(made, run=str(tmp_path)))
    for taken in ("filter", "gauge.json", "vectors"):
        with pytest.raises(InputError, match=r"simulator\.name"):
            config(home, folder, name=taken)
