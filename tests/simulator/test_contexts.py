"""The history that the judge is shown: enough, at random, and the same whoever else is asked about."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.data.jagged import Jagged
from simulator import contexts
from simulator.contexts import Contexts, Queries

LENGTHS = [3, 0, 50, 20, 21]
OFFSETS = np.cumsum([0, *LENGTHS])
EVENTS = Jagged(np.arange(1000, 1000 + OFFSETS[-1]), OFFSETS)


def shown(events: Jagged, user: int, seed: int = 0) -> list[int]:
    rows = events.values[contexts.draw(events, 20, seed)]
    return [row for row in rows if row in events.take(np.array([user])).values]


def test_a_user_has_so_many_events_or_all_in_their_order() -> None:
    drawn = contexts.draw(EVENTS, 20, seed=0)
    assert (np.diff(drawn) > 0).all()
    owner = np.searchsorted(OFFSETS, drawn, side="right") - 1
    assert np.bincount(owner, minlength=5).tolist() == [3, 0, 20, 20, 20]
    assert contexts.draw(EVENTS, 0, seed=0).size == 0


def test_a_users_events_do_not_depend_on_who_is_asked_about_beside_them() -> None:
    for some in ([2], [4, 2], [2, 1, 0]):
        part = EVENTS.take(np.array(some))
        assert shown(part, some.index(2)) == shown(EVENTS, 2)
    assert shown(EVENTS, 2, seed=1) != shown(EVENTS, 2)


def test_every_event_is_drawn_as_often_as_the_others() -> None:
    counts = np.zeros(OFFSETS[-1])
    for seed in range(400):
        counts[contexts.draw(EVENTS, 20, seed)] += 1
    often = counts[OFFSETS[2] : OFFSETS[3]] / 400  # of 50 events 20
    assert abs(often.mean() - 0.4) < 1e-9 and (abs(often - 0.4) < 4.5 * (0.24 / 400) ** 0.5).all()


VECTORS = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
HISTORIES = Jagged(np.array([4, 9, 2, 7, 7, 1, 3, 29, 0, 5, 6]), np.array([0, 4, 4, 5, 11]))
PAIRS = np.array([[3, 20], [0, 21], [3, 21], [1, 20], [3, 20], [2, 22], [0, 20]])


def by_hand(user: int, query: NDArray[np.float32], length: int) -> list[int]:
    """Eq. 8: the history's items by their dot product with the query; shown in their order."""
    history = HISTORIES.slice(user, user + 1).values.tolist()
    best = sorted(history, key=lambda code: -float(VECTORS[code] @ query))[:length]
    return [code for code in history if code in best]


@pytest.mark.parametrize("chunk", [1, 3, 65536])
def test_shown_is_what_lies_nearest_to_the_query(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_CHUNK", chunk)
    centres = VECTORS[[20, 5]] + VECTORS[[21, 6]]
    for queries in (Queries.each(VECTORS), Queries.grouped(VECTORS, centres)):
        assert queries.vectors is not None
        which, shown = Contexts(HISTORIES, 3, queries, VECTORS).of(PAIRS)
        for (user, item), at in zip(PAIRS, which, strict=True):
            nearest = queries.query[item]
            assert shown.slice(at, at + 1).values.tolist() == by_hand(user, queries.vectors[nearest], 3)


def test_items_of_one_group_share_a_context_and_lie_together() -> None:
    grouped = Contexts(HISTORIES, 3, Queries.grouped(VECTORS, VECTORS[[20]]), VECTORS)
    for made, count in ((grouped, 4), (Contexts(HISTORIES, 3, Queries.random(30), VECTORS), 4)):
        which, shown = made.of(PAIRS)
        assert len(shown.lengths) == count and shown.lengths[which].tolist() == [3, 3, 3, 0, 3, 1, 3]
    each = Contexts(HISTORIES, 3, Queries.each(VECTORS), VECTORS)
    which, shown = each.of(PAIRS)
    assert len(shown.lengths) == 6
    order = each.order(PAIRS)
    assert (np.diff(which[order]) >= 0).all()
    none = each.of(PAIRS[:0])
    assert len(none[0]) == len(none[1].lengths) == 0


def test_a_drawn_context_does_not_depend_on_the_histories_of_others() -> None:
    """Of those a rank knows the items' texts only where it asks about them."""
    asked = np.array([[3, 20], [0, 21]])
    fewer = Jagged(np.delete(HISTORIES.values, 4), np.array([0, 4, 4, 4, 10]))
    made = [Contexts(every, 3, Queries.random(30), VECTORS).of(asked) for every in (HISTORIES, fewer)]
    assert made[0][0].tolist() == made[1][0].tolist()
    assert made[0][1].values.tolist() == made[1][1].values.tolist()


def test_a_vector_is_in_the_group_of_its_nearest_centre() -> None:
    points = np.concatenate([VECTORS * 0.01, VECTORS * 0.01 + 5]).astype(np.float32)
    found = contexts.centres(points, 2, seed=0)
    np.testing.assert_allclose(np.sort(found[:, 0]), np.sort([points[:30, 0].mean(), points[30:, 0].mean()]), atol=1e-5)
    query = Queries.grouped(points, found).query
    distance = ((points[:, None] - found[None]) ** 2).sum(axis=-1)
    assert query.tolist() == distance.argmin(axis=1).tolist() and len(set(query[:30])) == len(set(query[30:])) == 1
    assert contexts.centres(points[:3], 5, seed=0).tolist() == points[:3].tolist()


def test_a_history_has_each_item_once_where_it_comes_last() -> None:
    events = Jagged(np.array([4, 9, 4, 7, 9, 1, 1]), np.array([0, 5, 5, 7]))
    known = np.arange(12) != 7
    made = contexts.distinct(events, known)
    assert made.values.tolist() == [4, 9, 1] and made.offsets.tolist() == [0, 2, 2, 3]
