import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.data.jagged import Jagged
from recsys.evaluate import topk
from recsys.evaluate.ties import Ties

USERS, ITEMS = 40, 50
TIES = Ties.of(pa.array(range(USERS)), ITEMS, seed=3)


@pytest.mark.parametrize("levels", [1, 2, 6, 10**6])
@pytest.mark.parametrize("candidates", [range(ITEMS), range(20), range(20, ITEMS)])
@pytest.mark.parametrize("k", [1, 3, 20, 64])
def test_the_best_are_those_of_a_full_sort_by_score_then_place(levels: int, candidates: range, k: int) -> None:
    scores = torch.from_numpy(np.random.default_rng(0).integers(-levels, levels, (USERS, ITEMS)).astype(np.float32))
    scores[::3] *= -0.0  # of both signs, which are equal
    scores[1::3, ::2] = -torch.inf  # masked
    found = topk.top(scores, candidates, TIES, k)
    for user in range(USERS):
        place = TIES.place(np.array([user]), np.arange(ITEMS))
        best = sorted(candidates, key=lambda item: (-scores[user, item].item(), place[item]))
        assert found[user].tolist() == best[:k]


@pytest.mark.parametrize("users", [5, USERS])
def test_ties_are_resolved_a_few_users_at_a_time(users: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def spy(scores: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        sizes.append(len(scores))
        return scores

    monkeypatch.setattr(topk, "_without_ties", spy)
    topk.top(torch.zeros(users, ITEMS), range(ITEMS), TIES.slice(0, users), 3)
    assert sum(sizes) == users and max(sizes) <= max(users // topk.TIED, 1)


def test_ranks_of_positives_and_k_for_those_beyond() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7], [0.4, 0.3, 0.2, 0.1]])
    ties = Ties.of(pa.array(["a", "b"]), 4, seed=0)
    row, item = np.array([0, 0, 1, 1], np.int32), np.array([1, 2, 0, 3], np.int32)
    assert topk.ranks(scores, range(4), ties, row, item, 2).tolist() == [0, 2, 0, 2]
    # Without item 0 as a candidate, item 3 is third; item 0 ranks nowhere.
    assert topk.ranks(scores, range(1, 4), ties, row, item, 3).tolist() == [0, 2, 3, 2]
    none = np.zeros(0, np.int32)
    assert topk.ranks(scores, range(4), ties, none, none, 2).tolist() == []


def test_only_the_users_own_items_are_masked() -> None:
    random = np.random.default_rng(1)
    users, items = (torch.from_numpy(random.normal(size=(n, 6)).astype(np.float32)) for n in (3, 5))
    masked = Jagged(np.array([1, 4, 0], np.int32), np.array([0, 2, 2, 3]))
    scores = topk.score(users, items, masked)
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[0, [1, 4]] = hidden[2, 0] = True
    assert torch.equal(scores.isinf(), hidden)
    torch.testing.assert_close(scores[~hidden], (users @ items.T)[~hidden])


@pytest.mark.parametrize("dim", [3, 64, 100])
def test_scores_are_the_same_whatever_the_batch_and_equal_for_equal_items(dim: int) -> None:
    random = np.random.default_rng(2)
    users, items = (torch.from_numpy(random.normal(size=(n, dim)).astype(np.float32)) for n in (200, 333))
    items[100:] = items[100].clone()
    none = Jagged(np.zeros(0, np.int32), np.zeros(201, np.int64))
    whole = topk.score(users, items, none)
    for size in (1, 7, 64, 150):
        parts = [
            topk.score(users[start : start + size], items, none.slice(start, min(start + size, 200)))
            for start in range(0, 200, size)
        ]
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole[:, 100:], whole[:, 100:101].expand(-1, 233))


@pytest.mark.parametrize(("users", "items"), [(1, 10), (1000, 10**5), (10**5, 3706), (64, 10**8)])
def test_batches_hold_each_user_once_and_bound_the_scores(users: int, items: int) -> None:
    found = list(topk.batches(users, items))
    assert [user for batch in found for user in range(batch.start, batch.stop)] == list(range(users))
    assert all((batch.stop - batch.start) * items <= max(topk.SCORES, topk.TILE * items) for batch in found)
