import numpy as np
import pyarrow as pa
import pytest

from recsys.data.jagged import Jagged
from recsys.errors import InputError
from recsys.evaluate import sampled
from recsys.evaluate.ties import Ties

ITEMS = 60
CANDIDATES = range(10, 40)


def likes(users: int, seed: int = 0, most: int = 20) -> Jagged:
    """[users] lists of different items, ascending."""
    random = np.random.default_rng(seed)
    lists = [np.sort(random.permutation(ITEMS)[: random.integers(most)]).astype(np.int32) for _ in range(users)]
    return Jagged(np.concatenate(lists), np.concatenate([[0], np.cumsum([len(one) for one in lists])]))


def ids(users: int) -> pa.Array:
    return pa.array([f"user {user}" for user in range(users)])


def test_negatives_are_different_candidates_without_a_positive_row() -> None:
    liked = likes(300)
    found = sampled.draw(ids(300), liked, CANDIDATES, 10, seed=0)
    assert found.shape == (300, 10) and found.dtype == np.int32
    for user, row in enumerate(found.tolist()):
        own = liked.values[liked.offsets[user] : liked.offsets[user + 1]]
        assert len(set(row)) == 10 and set(row) <= set(CANDIDATES) - set(own.tolist())


def test_a_users_negatives_depend_on_the_seed_and_the_id_alone() -> None:
    liked = likes(50)
    whole = sampled.draw(ids(50), liked, CANDIDATES, 10, seed=0)
    some = np.array([40, 3, 17])
    assert np.array_equal(
        sampled.draw(ids(50).take(pa.array(some)), liked.take(some), CANDIDATES, 10, seed=0), whole[some]
    )
    assert not np.array_equal(sampled.draw(ids(50), liked, CANDIDATES, 10, seed=1), whole)
    numbers = sampled.draw(pa.array(range(50)), liked, CANDIDATES, 10, seed=0)
    assert numbers.shape == whole.shape and not np.array_equal(numbers, whole)


def test_every_eligible_item_is_as_likely() -> None:
    users = 4000
    liked = Jagged(np.tile(np.array([12, 13], np.int32), users), np.arange(users + 1) * 2)
    found = sampled.draw(ids(users), liked, range(10, 22), 4, seed=0)
    eligible = [item for item in range(10, 22) if item not in (12, 13)]
    for counts in (
        np.bincount(found.ravel(), minlength=22)[eligible],
        np.bincount(found[:, 0], minlength=22)[eligible],
    ):
        # Chi-square with 9 degrees of freedom exceeds this once in a thousand times.
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 27.9


def test_all_that_is_eligible_can_be_drawn_and_one_more_is_refused() -> None:
    liked = Jagged(np.array([10, 20, 50], np.int32), np.array([0, 0, 3]))
    found = sampled.draw(ids(2), liked, CANDIDATES, 28, seed=0)
    assert set(found[1].tolist()) == set(CANDIDATES) - {10, 20}
    message = "user 'user 1' has 28 of 30 candidates without a positive row, evaluate.negatives asks for 29"
    with pytest.raises(InputError, match=message):
        sampled.draw(ids(2), liked, CANDIDATES, 29, seed=0)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_ranks_equal_a_loop_over_negatives(levels: int) -> None:
    random = np.random.default_rng(levels)
    scores = random.integers(0, levels, (6, ITEMS)).astype(np.float32)
    ties = Ties.of(ids(6), ITEMS, seed=1)
    row, item = np.array([0, 0, 2, 5, 5, 5], np.int32), np.array([1, 9, 50, 2, 3, 59], np.int32)
    negatives = sampled.draw(ids(3), likes(3), CANDIDATES, 10, seed=0)
    users = np.array([0, 2, 5], np.int32)
    found = sampled.ranks(scores, ties, row, item, users, negatives)
    for k in range(len(row)):
        place = ties.place(np.array([row[k]]), np.arange(ITEMS))
        mine = (-scores[row[k], item[k]], place[item[k]])
        others = negatives[users.tolist().index(row[k])]
        assert found[k] == sum((-scores[row[k], other], place[other]) < mine for other in others)
