"""The history that the judge is shown: enough, at random, and the same whoever else is asked about."""

import numpy as np

from recsys.data.jagged import Jagged
from simulator import contexts

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
