"""The pairs that the judge is examined on: cold items that were taken, and as many of either kind that were not."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys.config_simulator import Gauge, Prompt, Simulator
from recsys.errors import InputError
from simulator.pairs import KINDS, Pairs
from simulator.population import Population

USERS, WARM, COLD = 30, 20, 40
SMALL = Simulator(gauge=Gauge(pairs=60, per_user=4), prompt=Prompt(history=5))


def rows(user: np.ndarray, item: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "user_id": [f"u{one:02d}" for one in user],
            "item_id": [f"i{one:02d}" for one in item],
            "timestamp": np.arange(len(user)),
            "label": (np.arange(len(user)) % 3 > 0).astype(np.int8),
        }
    )


def write(folder: Path, splits: dict[str, pa.Table], rule: str = "column") -> Path:
    for split, table in splits.items():
        part = folder / "interactions" / f"split={split}"
        part.mkdir(parents=True)
        pq.write_table(table, part / "part-00000.parquet", row_group_size=17)
    cold = pa.table({"item_id": [f"i{k}" for k in range(WARM, WARM + COLD)]})
    pq.write_table(cold, folder / "held_out.parquet")
    (folder / "settings.yaml").write_text(yaml.safe_dump({"label": {"rule": rule}, "split": {"rule": "cold-items"}}))
    return folder


def splits() -> dict[str, pa.Table]:
    random = np.random.default_rng(0)
    weight = 1 / np.arange(1, COLD + 1)
    held = WARM + random.choice(COLD, 400, p=weight / weight.sum())
    held[::10] = random.integers(WARM, size=40)  # warm rows are held out, too
    user = random.integers(USERS + 3, size=400)  # the last three without a training row
    return {
        "train": rows(
            random.integers(USERS, size=300), np.concatenate([np.arange(WARM), random.integers(WARM, size=280)])
        ),
        "valid": rows(user[:150], held[:150]),
        "test": rows(user[150:], held[150:]),
    }


def truth(seen: bool) -> dict[str, set[str]]:
    """What each user took of the cold items, row by row."""
    found: dict[str, set[str]] = {}
    for split in ("valid", "test"):
        for row in splits()[split].to_pylist():
            if (row["label"] or seen) and int(row["item_id"][1:]) >= WARM:
                found.setdefault(row["user_id"], set()).add(row["item_id"])
    return found


@pytest.mark.parametrize("rule", ["column", "liked"])
def test_positives_are_what_was_taken_and_the_others_not(tmp_path: Path, rule: str) -> None:
    dataset = write(tmp_path / "data", splits(), rule)
    population = Population.read(dataset)
    found, took = Pairs.draw(dataset, population, SMALL), truth(rule == "liked")
    ids, users = population.items.to_pylist(), population.users.to_pylist()
    held = population.held_out(dataset)
    assert {
        users[code]: {ids[item] for item in held.slice(code, code + 1).values}
        for code in range(len(users))
        if held.lengths[code]
    } == {user: items for user, items in took.items() if user in users}
    kinds = Counter(found.kind.tolist())
    assert 30 <= kinds[0] < 34 and kinds[1] == kinds[2] == kinds[0] and len(KINDS) == 2
    for one in range(len(found.histories.lengths)):
        mine = found.user == one
        yes = {ids[item] for item in found.item[mine & (found.kind == 0)]}
        owners = [user for user, items in took.items() if yes <= items]
        for kind in (1, 2):
            others = [ids[item] for item in found.item[mine & (found.kind == kind)]]
            assert len(set(others)) == len(others) == len(yes) <= 4 and min(others) >= f"i{WARM}"
            assert any(not set(others) & took[user] for user in owners)
    assert (found.histories.lengths <= 5).all() and (found.histories.lengths > 0).all()
    assert found.histories.values.max() < WARM


def test_histories_are_of_the_users_asked_about(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", splits())
    population = Population.read(dataset)
    everything = replace(SMALL, prompt=Prompt(history=1000), gauge=Gauge(pairs=4000, per_user=1))
    found = Pairs.draw(dataset, population, everything)
    have = sorted(found.histories.slice(k, k + 1).values.tolist() for k in range(len(found.histories.lengths)))
    held = population.held_out(dataset).lengths > 0
    asked = np.flatnonzero(held & (population.taken.lengths > 0))
    assert have == sorted(population.taken.slice(int(k), int(k) + 1).values.tolist() for k in asked)


def test_one_kind_is_as_popular_as_what_was_taken_the_other_is_not(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", splits(), "liked")
    population = Population.read(dataset)
    held = np.bincount(population.held_out(dataset).values, minlength=WARM + COLD)
    shares = np.zeros((3, 20))
    for seed in range(20):
        found = Pairs.draw(dataset, population, replace(SMALL, gauge=Gauge(pairs=200, per_user=2, seed=seed)))
        for kind in range(3):
            shares[kind, seed] = held[found.item[found.kind == kind]].mean()
    taken, uniform, popular = shares.mean(axis=1)
    # A user's own items, the popular ones more than others, are never among those that they did not take.
    assert uniform < held[WARM:].mean() < popular < taken and popular > 1.5 * uniform


def test_without_a_cold_positive_there_is_nothing_to_ask(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", {"train": splits()["train"]})
    with pytest.raises(InputError, match="expected a user who took a cold item in split 'valid' or 'test'"):
        Pairs.draw(dataset, Population.read(dataset), SMALL)


def test_what_was_shown_and_never_taken_is_known_where_the_log_tells(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", splits())
    population = Population.read(dataset)
    ids, users = population.items.to_pylist(), population.users.to_pylist()
    expected: dict[str, set[str]] = {}
    for row in splits()["train"].to_pylist():
        expected.setdefault(row["user_id"], set()).add(row["item_id"])
    for row in splits()["train"].filter(pa.compute.equal(splits()["train"]["label"], 1)).to_pylist():
        expected[row["user_id"]].discard(row["item_id"])
    ignored = population.ignored(dataset)
    for code, user in enumerate(users):
        assert {ids[item] for item in ignored.slice(code, code + 1).values} == expected[user]
    other = write(tmp_path / "liked", splits(), "liked")
    assert not len(Population.read(other).ignored(other).values)
