"""AUC in a stream against sklearn on all rows: exact while they are held, within its own bound beyond."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recsys.distributed import process_group
from recsys.evaluate.streamed import Auc, StreamedAuc
from tests.ranks import run_ranks


def drawn(count: int, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-random.normal(-1, 2, count)))
    score = (np.round(score, 1) if ties else score).astype(np.float32)
    return score, (random.random(count) < score).astype(np.int8)


def streamed(score: np.ndarray, label: np.ndarray, exact: int, batch: int = 1000) -> Auc:
    area = StreamedAuc(exact=exact)
    for start in range(0, len(score), batch):
        some = slice(start, start + batch)
        area.update(torch.tensor(score[some]), torch.tensor(label[some]))
    return area.compute()


@pytest.mark.parametrize("ties", [False, True])
def test_few_rows_are_exact(ties: bool) -> None:
    score, label = drawn(3000, ties=ties)
    score[:2] = 0.0, 1.0
    found = streamed(score, label, exact=3000)
    assert found.error == 0.0 and found.value == pytest.approx(roc_auc_score(label, score), abs=1e-12)


@pytest.mark.parametrize("exact", [0, 1500, 2999])
def test_many_rows_are_within_the_bound(exact: int) -> None:
    score, label = drawn(3000)
    score[:2] = 0.0, 1.0
    found = streamed(score, label, exact)
    assert 0 < found.error < 1e-4 and abs(found.value - roc_auc_score(label, score)) <= found.error


def test_the_bound_is_reached_by_the_worst_case() -> None:
    """Scores that differ in their last bit only, all positives above all negatives: one bin, half right."""
    score = torch.tensor([0.5, 0.5]).view(torch.int32).add(torch.tensor([0, 1], dtype=torch.int32)).view(torch.float32)
    area = StreamedAuc(exact=0)
    area.update(score, torch.tensor([0, 1]))
    assert area.compute() == (0.5, 0.5)


def test_it_can_be_asked_in_between() -> None:
    score, label = drawn(400)
    area = StreamedAuc(exact=300)
    for start in (0, 200):
        area.update(torch.tensor(score[start : start + 200]), torch.tensor(label[start : start + 200]))
        seen = slice(start + 200)
        assert (
            area.compute().value
            == area.compute().value
            == pytest.approx(roc_auc_score(label[seen], score[seen]), abs=1e-4)
        )


def test_one_class_has_none() -> None:
    assert np.isnan(streamed(np.array([0.1, 0.2], np.float32), np.zeros(2, np.int8), exact=10).value)
    assert np.isnan(streamed(np.zeros(0, np.float32), np.zeros(0, np.int8), exact=10).value)


HELD = (10_000, 5200, 1000)
"""By all, by each but too many together, and counted by one of them alone."""


def of_shares() -> list[Auc]:
    """The first rank has ten times the rows of the other."""
    with process_group() as ranks:
        score, label = drawn(5000 if ranks.is_first else 500, seed=ranks.rank)
        return [streamed(score, label, exact, batch=500) for exact in HELD]


def test_ranks_agree_on_the_auc_of_all_rows() -> None:
    parts = [drawn(5000, seed=0), drawn(500, seed=1)]
    score, label = (np.concatenate(each) for each in zip(*parts, strict=True))
    first, second = run_ranks(2, of_shares)
    assert first == second
    assert first[0].error == 0.0 and all(0 < found.error < 1e-4 for found in first[1:])
    for found in first:
        assert found.value == pytest.approx(roc_auc_score(label, score), abs=max(found.error, 1e-12))
