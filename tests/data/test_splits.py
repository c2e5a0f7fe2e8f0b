from dataclasses import replace

import numpy as np
import pytest

from recsys.config import Split
from recsys.data import splits
from recsys.data.splits import DROPPED, FEEDBACK, TEST, TRAIN, VALID, Rows, assign
from recsys.errors import InputError
from tests.data.logs import named, random_rows, rows, with_new

BURSTS = rows(
    [
        # user 0: six rows, the fourth by time is at 3, so "before" is 1 and 2
        (0, 1, 1),
        (0, 0, 2),
        (0, 2, 3),
        (0, 3, 3),
        (0, 0, 4),
        (0, 4, 5),
        # user 1: four rows, cut at 12
        (1, 0, 10),
        (1, 1, 11),
        (1, 2, 12),
        (1, 3, 13),
        # user 2: six rows, cut at 23; of the three before, the newest two are valid
        (2, 1, 20),
        (2, 2, 21),
        (2, 3, 22),
        (2, 4, 23),
        (2, 1, 24),
        (2, 2, 25),
    ]
)


def exposure(seed: int = 0, **changes: object) -> Split:
    defaults: dict[str, object] = {"seed": seed, "min_rows": 2, "exposures": [0, 2], "valid_share": 0.5}
    return Split(**(defaults | changes))  # type: ignore[arg-type]


def test_exposure_by_users_own_cut() -> None:
    made = with_new(0, exposure, BURSTS)
    assert named(made, TRAIN) == [0, 7, 10]
    assert named(made, VALID) == [11, 12]
    assert named(made, TEST) == [2, 3, 4, 5, 8, 9, 13, 14, 15]
    assert named(made, FEEDBACK) == [1, 6]
    assert made.rank[[1, 6]].tolist() == [2, 1]
    assert made.scored.tolist() == [True, False, False, False, False]
    assert not made.remembered[[1, 4, 6]].any() and made.remembered.sum() == 13


def test_exposure_scores_only_items_with_enough_rows_before_the_cut() -> None:
    made = with_new(0, lambda seed: exposure(seed, min_rows=3), BURSTS)
    assert 4 not in named(made, TEST) and made.split[4] == DROPPED
    assert named(made, FEEDBACK) == [1, 6], "feedback is kept for every new item"


def test_exposure_keeps_the_most_recent_feedback_only() -> None:
    made = with_new(0, lambda seed: exposure(seed, exposures=[0, 1]), BURSTS)
    assert named(made, FEEDBACK) == [6] and made.split[1] == DROPPED


def test_exposure_by_one_cut_in_time() -> None:
    # Sixteen rows, the ninth by time is at 12.
    made = with_new(0, lambda seed: exposure(seed, cut="time"), BURSTS)
    # Warm and before 12, by time: rows 0 (1), 2 and 3 (3), 5 (5), 7 (11). Half of 5 rounds to 2, so 7 and 5 are newest.
    assert named(made, TRAIN) == [0, 2, 3]
    assert named(made, VALID) == [5, 7]
    assert named(made, FEEDBACK) == [4, 6]
    assert made.rank[[1, 4, 6]].tolist() == [0, 2, 1]
    assert named(made, TEST) == [8, 9, 10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize("cut", ["user", "time"])
def test_exposure_never_splits_a_second(cut: str) -> None:
    on = random_rows()
    made = assign(on, exposure(cut=cut, min_rows=5, exposures=[0, 8]))
    order = {TRAIN: 0, VALID: 1, TEST: 2}
    warm = made.group[on.item] == ""
    owner = on.user if cut == "user" else np.zeros_like(on.user)
    for user in np.unique(owner):
        mine = (owner == user) & warm
        assert (made.split[mine] >= 0).all(), "every warm row is somewhere"
        by_second = {
            int(second): {order[int(code)] for code in made.split[mine & (on.time == second)]}
            for second in np.unique(on.time[mine])
        }
        assert all(len(sides) == 1 for sides in by_second.values())
        sides = [next(iter(by_second[second])) for second in sorted(by_second)]
        assert sides == sorted(sides), "train, then valid, then test"


def test_exposure_ranks_equal_brute_force() -> None:
    on = random_rows(seconds=10_000_000)
    made = assign(on, exposure(min_rows=5, exposures=[0, 4]))
    after = np.zeros(len(on.user), bool)
    for user in np.unique(on.user):
        mine = on.user == user
        after[mine] = on.time[mine] >= np.sort(on.time[mine])[mine.sum() // 2]
    assert made.scored.any() and not made.scored.all()
    for item in np.flatnonzero(made.group == "new"):
        kept = np.flatnonzero((on.item == item) & ~after)
        newest = kept[np.argsort(-on.time[kept])]
        assert made.rank[newest[:4]].tolist() == list(range(1, min(4, len(kept)) + 1))
        assert (made.rank[newest[4:]] == 0).all() and (made.split[newest[4:]] == DROPPED).all()
        assert made.scored[item] == (len(kept) >= 5)


def test_cold_items_keeps_every_warm_user_and_item_in_train() -> None:
    on = random_rows(count=1000)
    made = assign(on, Split(rule="cold-items"))
    groups = made.group[on.item]
    assert sorted(np.unique(made.group).tolist()) == ["", "cold-test", "cold-valid"]
    assert (made.group == "cold-test").sum() == (made.group == "cold-valid").sum() == 4
    assert (made.split[groups == "cold-valid"] == VALID).all() and (made.split[groups == "cold-test"] == TEST).all()
    warm, train = groups == "", made.split == TRAIN
    assert set(on.item[warm]) == set(on.item[train]) and set(on.user[warm]) == set(on.user[train])
    for code in (VALID, TEST):
        assert (warm & (made.split == code)).sum() == warm.sum() // 10
    assert (made.remembered == train).all()


def test_temporal_never_splits_a_second() -> None:
    on = random_rows(seconds=50)
    made = assign(on, Split(rule="temporal"))
    bounds = [(on.time[made.split == code].min(), on.time[made.split == code].max()) for code in (TRAIN, VALID, TEST)]
    assert bounds[0][1] < bounds[1][0] and bounds[1][1] < bounds[2][0]
    with pytest.raises(InputError, match="valid empty"):
        # The newest tenth is one row of second 9; its twin goes with it and leaves nothing to validate on.
        assign(rows([(0, 0, second) for second in [1, 2, 3, 4, 5, 6, 7, 7, 9, 9]]), Split(rule="temporal"))


def test_temporal_by_hand() -> None:
    on = rows([(0, 0, second) for second in [5, 1, 2, 2, 3, 4, 8, 8, 9, 7]])
    made = assign(on, Split(rule="temporal", test_share=0.2))
    # By time: 1 2 2 3 4 5 7 8 8 9. Test from the ninth (8), valid from the seventh (7).
    assert named(made, TEST) == [6, 7, 8]
    assert named(made, VALID) == [9]
    assert named(made, TRAIN) == [0, 1, 2, 3, 4, 5]


def test_leave_one_out_by_hand() -> None:
    on = rows(
        [(0, 0, 1), (0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5), (0, 5, 6), (1, 0, 7), (1, 1, 8), (2, 2, 9)],
        label=[1, 0, 1, 0, 1, 0, 1, 0, 0],
    )
    made = assign(on, Split(rule="leave-one-out"))
    assert named(made, TEST) == [4, 6], "each user's last positive"
    assert named(made, VALID) == [2]
    assert named(made, DROPPED) == [3, 5, 7], "what is later than a target would be the future"
    assert named(made, TRAIN) == [0, 1, 8]


def test_leave_one_out_breaks_ties_by_seed() -> None:
    on = rows([(0, 0, 1), (0, 1, 5), (0, 2, 5), (0, 3, 5)])
    tested = {named(assign(on, Split(rule="leave-one-out", seed=seed)), TEST)[0] for seed in range(40)}
    assert tested == {1, 2, 3}


def test_warm_up_phases() -> None:
    sizes = {0: 201, 1: 200, 2: 60, 3: 59}
    triples = [(row % 7, item, 1000 - row) for item, size in sizes.items() for row in range(size)]
    on = rows(triples)
    made = assign(on, Split(rule="warm-up"))
    assert made.group.tolist() == ["", "new", "new", ""]
    assert set(made.split[on.item == 0]) == {TRAIN, VALID} and (made.split[on.item == 0] == VALID).sum() == 20
    assert (made.split[on.item == 3] == DROPPED).all()
    assert (made.split[on.item == 2] == FEEDBACK).all(), "60 rows leave none for test"
    oldest_first = np.flatnonzero(on.item == 1)[::-1]
    assert made.rank[oldest_first].tolist() == [*range(1, 61)] + [0] * 140
    assert (made.split[oldest_first[60:]] == TEST).all()
    assert not made.remembered[on.item != 0].any()


@pytest.mark.parametrize("rule", ["exposure", "cold-items", "warm-up", "leave-one-out", "temporal"])
def test_same_seed_same_split(rule: str) -> None:
    flat = random_rows(count=6000, items=60)
    on = replace(flat, item=(flat.item**2 // 60).astype(np.int32))  # from 40 to 800 rows an item
    same = [assign(on, exposure(seed, rule=rule, min_rows=5)) for seed in (3, 3, 4)]
    assert (same[0].split == same[1].split).all() and (same[0].rank == same[1].rank).all()
    assert rule == "temporal" or (same[0].split != same[2].split).any()


@pytest.mark.parametrize("rule", ["exposure", "cold-items"])
def test_another_seed_holds_out_other_items(rule: str) -> None:
    on = random_rows()
    drawn = [
        frozenset(np.flatnonzero(assign(on, exposure(seed, rule=rule, min_rows=5)).group != "")) for seed in range(5)
    ]
    assert len(set(drawn)) == 5 and {len(items) for items in drawn} == {8}


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="'warm-up' leaves train empty: 16 rows, 0 held-out items"):
        assign(BURSTS, Split(rule="warm-up"))
    with pytest.raises(InputError, match="no rows"):
        assign(
            Rows(**{name: getattr(BURSTS, name)[:0] for name in ("user", "item", "time", "label")}, items=5), Split()
        )


def test_seeded_keys_are_spread() -> None:
    keys = splits.seeded_keys(1000, 0)
    assert len(np.unique(keys)) == 1000
    assert 0.4 < (keys / 2.0**64).mean() < 0.6
    assert (keys != splits.seeded_keys(1000, 1)).all() and (keys != splits.seeded_keys(1000, 0, 1)).all()
