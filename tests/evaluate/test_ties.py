import numpy as np
import pyarrow as pa

from recsys.evaluate.ties import Ties

USERS, ITEMS = 2000, 40


def test_a_user_has_each_place_once_and_every_item_has_every_place_as_often() -> None:
    ties = Ties.of(pa.array(range(USERS)), ITEMS, seed=0)
    places = ties.place(np.arange(USERS)[:, None], np.arange(ITEMS))
    assert (np.sort(places, axis=1) == np.arange(ITEMS)).all()
    # 50 times in the mean; six standard deviations.
    counts = np.stack([np.bincount(places[:, item], minlength=ITEMS) for item in range(ITEMS)])
    assert abs(counts - USERS / ITEMS).max() < 6 * (USERS / ITEMS) ** 0.5


def test_places_depend_on_the_seed_and_the_users_id_alone() -> None:
    ids = pa.array(["a", "b", "c"])
    ties = Ties.of(ids, ITEMS, seed=0)
    item = np.arange(ITEMS)
    last = ties.place(np.array([2]), item)
    np.testing.assert_array_equal(ties.slice(2, 3).place(np.array([0]), item), last)
    np.testing.assert_array_equal(Ties.of(ids.take([2]), ITEMS, seed=0).place(np.array([0]), item), last)
    assert not np.array_equal(Ties.of(ids, ITEMS, seed=1).place(np.array([2]), item), last)
