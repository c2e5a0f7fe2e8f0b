"""What the judge knows: the AUC of each system is that of scores computed one by one, on the pairs that were drawn."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import zscore
from sklearn.metrics import roc_auc_score

from recsys.config import Config
from recsys.content.encoder import minilm
from recsys.distributed import process_group
from recsys.errors import InputError
from simulator import finetune, judge, texts
from simulator.gauge import gauge
from simulator.pairs import Pairs
from simulator.population import Population
from tests.ranks import run_ranks
from tests.simulator import logs
from tests.simulator.test_judge import CPU

TUNE = {"steps": 2, "users": 4, "positives": 3, "lora_rank": 2, "lr": 0.05, "warmup": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Config:
    home = logs.write(tmp_path_factory.mktemp("gauge"))
    found = logs.config(home, folder, tune=TUNE, gauge={"pairs": 40, "per_user": 3})
    with process_group() as ranks:
        finetune.tune(found, ranks)
    return found


def gauged(made: Config) -> dict[str, dict[str, dict[str, dict[str, list[float]]]]]:
    with process_group() as ranks:
        return json.loads(gauge(made, ranks).read_text())


def by_hand(made: Config) -> tuple[Pairs, dict[str, np.ndarray]]:
    """Scores of every system, a user and an item at a time."""
    dataset, asked = Path(made.data.path), made.simulator
    population = Population.read(dataset)
    pairs = Pairs.draw(dataset, population, asked)
    whole = texts.read(dataset, asked.prompt.template, 16, population.items)
    short = texts.read(dataset, asked.prompt.history_template, 12, population.items)
    shown = [pairs.histories.slice(k, k + 1).values for k in range(len(pairs.histories.lengths))]
    bare = judge.load(asked, CPU)
    tuned = judge.load(replace(asked, judge=replace(asked.judge, adapter=str(finetune.folder_of(made)))), CPU)

    def ask(by: judge.Judge, shift: int) -> np.ndarray:
        users = (pairs.user + shift) % len(shown)
        one = np.array([[0, 0]])
        return np.array(
            [
                by.score([[short[k] for k in shown[user]]], [whole[item]], one)[0]
                for user, item in zip(users, pairs.item, strict=True)
            ]
        )

    found = {"zero-shot": ask(bare, 0), "tuned": ask(tuned, 0), "swapped": ask(tuned, 1)}
    used = np.unique(np.concatenate([pairs.item, pairs.histories.values]))
    vectors = dict(zip(used, minilm()([whole[k] for k in used]), strict=True))
    centre = np.mean(list(vectors.values()), axis=0)
    unit = {k: (one - centre) / np.linalg.norm(one - centre) for k, one in vectors.items()}
    mean = [np.mean([unit[k] for k in some], axis=0) for some in shown]
    cosine = [unit[i] @ mean[u] / np.linalg.norm(mean[u]) for u, i in zip(pairs.user, pairs.item, strict=True)]
    found["minilm"] = np.array(cosine)
    logit = np.log(found["tuned"] / (1 - found["tuned"]))
    return pairs, found | {"tuned+minilm": zscore(logit) + zscore(cosine)}


def test_every_auc_is_that_of_the_scores(made: Config, capsys: pytest.CaptureFixture[str]) -> None:
    found = gauged(made)
    pairs, scores = by_hand(made)
    assert list(found["systems"]) == list(scores)
    for name, score in scores.items():
        for number, kind in enumerate(("uniform", "popular"), 1):
            rows = (pairs.kind == 0) | (pairs.kind == number)
            value, low, high = found["systems"][name][kind]["auc"]
            assert value == pytest.approx(roc_auc_score(pairs.kind[rows] == 0, score[rows]), abs=0.004)
            assert low < value < high and found["systems"][name][kind]["rows"] == rows.sum()
    for kind in ("uniform", "popular"):
        value, low, high = found["differences"]["tuned - swapped"][kind]["auc"]
        auc = [found["systems"][name][kind]["auc"][0] for name in ("tuned", "swapped")]
        assert value == pytest.approx(auc[0] - auc[1]) and low <= value <= high
    printed = capsys.readouterr().out
    assert "tuned - swapped" in printed and "popular" in printed


def test_two_ranks_come_to_the_same(made: Config) -> None:
    alone = gauged(made)
    [first, second] = run_ranks(2, gauged, made)
    assert first["systems"] == second["systems"] == alone["systems"]


def test_without_an_adapter_there_is_nothing_to_gauge(made: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"simulator/adapter: no adapter there: tune the judge first"):
        gauged(replace(made, run=str(tmp_path)))
