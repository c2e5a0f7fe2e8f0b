"""The whole way from files to results, against loops over users and against ir-measures."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest

from recsys.config import Evaluate
from recsys.errors import InputError
from recsys.evaluate import ranking, sampled, topk
from recsys.evaluate.positives import Task, read_task
from tests.evaluate import likes

SEGMENTS = ("all", "warm", "cold")


def by_loops(
    splits: dict[str, list[likes.Row]], task: Task, scores: dict[tuple[str, str], float], options: Evaluate
) -> dict[str, Any]:
    """Every metric by the definition, over names of users and items; of the task only how it breaks ties and draws."""
    liked: dict[str, dict[str, set[str]]] = {name: defaultdict(set) for name in splits}
    for name, rows in splits.items():
        for user, item, label in rows:
            if label:
                liked[name][user].add(item)
    users, items = task.users.to_pylist(), task.items.to_pylist()
    warm = {item for _, item, _ in splits["train"]}
    kinds = {"all": items, "warm": [i for i in items if i in warm], "cold": [i for i in items if i not in warm]}
    found = {}
    for segment, candidates in kinds.items():
        codes = range(items.index(candidates[0]), items.index(candidates[-1]) + 1)
        values = defaultdict(list)
        drawn = [user for user in users if (liked["test"][user] - liked["train"][user]) & set(candidates)]
        for user in drawn:
            position = np.array([users.index(user)])

            def place(item: str, user: str = user, position: Any = position) -> tuple[float, int]:
                return -scores[user, item], int(task.ties.place(position, np.array([items.index(item)]))[0])

            positives = (liked["test"][user] - liked["train"][user]) & set(candidates)
            best = sorted(set(candidates) - liked["train"][user], key=place)
            for k in options.top_k:
                hits = [item in positives for item in best[:k]]
                ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, len(positives))))
                values[f"recall@{k}"].append(sum(hits) / len(positives))
                values[f"ndcg@{k}"].append(sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits)) / ideal)
            codes_drawn = sampled.draw(
                task.users.take(position), task.liked.take(position), codes, options.negatives, options.seed
            )
            negatives = [items[code] for code in codes_drawn[0]]
            for k in options.sampled_k:
                ranks = [sum(place(other) < place(item) for other in negatives) for item in positives]
                values[f"hitrate@{k}/{options.negatives}"].append(sum(rank < k for rank in ranks) / len(ranks))
                gains = [(rank < k) / np.log2(rank + 2) for rank in ranks]
                values[f"ndcg@{k}/{options.negatives}"].append(sum(gains) / len(gains))
        found[segment] = {name: float(np.mean(value)) for name, value in values.items()} | {"ranked_users": len(drawn)}
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_results_equal_loops_over_users(tmp_path: Path, seed: int, levels: int) -> None:
    splits = likes.random_rows(seed)
    likes.write(tmp_path / "data", splits, likes.COLD)
    config = likes.config(tmp_path / "data", tmp_path / "run", seed=seed)
    users, items = likes.drawn(seed, levels=levels)
    folder = likes.vectors(tmp_path / "vectors", users, items)
    scores = {(str(u), str(i)): float(users[u] @ items[i]) for u in users for i in items}
    expected = by_loops(splits, read_task(tmp_path / "data", "test", seed), scores, config.evaluate)
    found = ranking.evaluate(config, {"mine": folder})["systems"]["mine"]
    for segment in SEGMENTS:
        assert found[segment]["ranked_users"] == expected[segment].pop("ranked_users")
        values = {name: value[0] for name, value in found[segment].items() if "@" in name}
        assert values == pytest.approx(expected[segment], abs=1e-6)


def test_full_ranking_agrees_with_ir_measures(tmp_path: Path) -> None:
    splits = likes.random_rows(4)
    likes.write(tmp_path / "data", splits, likes.COLD)
    config = likes.config(tmp_path / "data", tmp_path / "run", top_k=[5, 20], negatives=1)
    random = np.random.default_rng(4)
    users, items = (
        {key: random.normal(size=8).astype(np.float32) for key in keys}
        for keys in (likes.USERS, likes.WARM + likes.COLD)
    )
    folder = likes.vectors(tmp_path / "vectors", users, items)
    found = ranking.evaluate(config, {"mine": folder})["systems"]["mine"]
    liked = {name: {(user, item) for user, item, label in rows if label} for name, rows in splits.items()}
    run = [
        ir_measures.ScoredDoc(user, item, float(users[user] @ items[item]))
        for user in users
        for item in items
        if (user, item) not in liked["train"]
    ]
    for segment, kept in (("all", {*items}), ("warm", {*likes.WARM}), ("cold", {*likes.COLD})):
        truth = [ir_measures.Qrel(user, item, 1) for user, item in liked["test"] - liked["train"] if item in kept]
        inside = [document for document in run if document.doc_id in kept]
        for k in (5, 20):
            measures = {f"recall@{k}": ir_measures.R @ k, f"ndcg@{k}": ir_measures.nDCG @ k}
            expected = ir_measures.calc_aggregate(measures.values(), truth, inside)
            for name, measure in measures.items():
                assert found[segment][name][0] == pytest.approx(expected[measure], abs=1e-6)


def test_a_planted_leak_is_ranked_perfectly_and_a_mask_hides_training_positives_only(tmp_path: Path) -> None:
    splits = {
        "train": [(user, item, 1) for user in likes.USERS for item in likes.WARM[:4]]
        + [(user, item, 0) for user in likes.USERS for item in likes.WARM],
        "valid": [(likes.USERS[0], likes.COLD[0], 1)],
        "test": [(user, (likes.WARM + likes.COLD)[4 + k], 1) for k, user in enumerate(likes.USERS)],
    }
    likes.write(tmp_path / "data", splits, likes.COLD)
    items = dict(zip(likes.WARM + likes.COLD, np.eye(30, dtype=np.float32), strict=True))
    # Training positives score highest, then the test positive: without the mask it would rank fifth.
    known = 2 * sum(items[item] for item in likes.WARM[:4])
    users = {user: (known + items[item]).astype(np.float32) for user, item, _ in splits["test"]}
    folder = likes.vectors(tmp_path / "vectors", users, items)
    options = {"top_k": [1], "sampled_k": [1], "negatives": 3}
    found = ranking.evaluate(likes.config(tmp_path / "data", tmp_path / "run", **options), {"leak": folder})
    for segment in SEGMENTS:
        entry = found["systems"]["leak"][segment]
        assert [entry[name] for name in ("recall@1", "ndcg@1", "hitrate@1/3", "ndcg@1/3")] == [
            pytest.approx([1.0] * 3)
        ] * 4
    # Rows of train with label 0, and positives of valid, are not masked: a user who wants them ranks them first.
    wants = {**users, likes.USERS[0]: (9 * items[likes.COLD[0]]).astype(np.float32)}
    other = likes.vectors(tmp_path / "other", wants, items)
    found = ranking.evaluate(likes.config(tmp_path / "data", tmp_path / "run", **options), {"leak": other})
    assert found["systems"]["leak"]["all"]["recall@1"][0] == pytest.approx(24 / 25)


def test_constant_scores_get_what_chance_gives(tmp_path: Path) -> None:
    users = [f"u{k:04}" for k in range(1500)]
    # One item has every positive: an order shared by all users would rank it for everybody or for nobody.
    splits = {
        "train": [(users[k % 1500], item, 0) for k, item in enumerate(likes.WARM)],
        "test": [(user, likes.COLD[3], 1) for user in users],
    }
    likes.write(tmp_path / "data", splits, likes.COLD)
    one = np.ones(2, np.float32)
    folder = likes.vectors(tmp_path / "vectors", {None: one}, {None: one, "unrelated": one})
    config = likes.config(tmp_path / "data", tmp_path / "run", top_k=[3], sampled_k=[2], negatives=9)
    found = ranking.evaluate(config, {"constant": folder})
    entry = found["systems"]["constant"]["cold"]
    assert entry["recall@3"][0] == pytest.approx(3 / 15, abs=0.04)  # four standard errors
    assert entry["hitrate@2/9"][0] == pytest.approx(2 / 10, abs=0.04)
    assert found["without_vector"]["constant"] == {"users": 1500, "warm items": 15, "cold items": 15}


def test_results_do_not_depend_on_the_batch_and_copies_do_not_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likes.write(tmp_path / "data", likes.random_rows(), likes.COLD)
    config = likes.config(tmp_path / "data", tmp_path / "run")
    folder = likes.vectors(tmp_path / "vectors", *likes.drawn(0))
    whole = ranking.evaluate(config, {"base": folder, "copy": folder}) | {"seconds": None}
    assert whole["systems"]["base"] == whole["systems"]["copy"]
    changes = [values for entry in whole["differences"]["copy - base"].values() for values in entry.values()]
    assert all(values == [0.0, 0.0, 0.0] for values in changes if isinstance(values, list))
    for size in (1, 7):
        monkeypatch.setattr(topk, "batches", lambda users, items, size=size: one_by_one(users, size))
        again = ranking.evaluate(config, {"base": folder, "copy": folder}) | {"seconds": None}
        np.testing.assert_equal(again, whole)


def one_by_one(users: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, users)) for start in range(0, users, size)]


def test_rare_positives_rank_among_all_candidates_and_the_others_are_left_out(tmp_path: Path) -> None:
    splits = likes.random_rows(1)
    likes.write(tmp_path / "data", splits, likes.COLD)
    folder = likes.vectors(tmp_path / "vectors", *likes.drawn(1, levels=1000))
    takers = {item: {user for user, other, label in splits["train"] if label and other == item} for item in likes.WARM}
    rare = {item for item in likes.WARM + likes.COLD if len(takers.get(item, ())) < 5}
    assert 3 < len(rare & {*likes.WARM}) < 12
    options = likes.config(tmp_path / "data", tmp_path / "run", rare_below=5)
    found = ranking.evaluate(options, {"mine": folder})
    # Without the other positives in test, but with them still no negatives of anybody.
    other = tmp_path / "other"
    kept = [row for row in splits["test"] if row[1] in rare]
    moved = [row for row in splits["test"] if row[1] not in rare]
    likes.write(other, {**splits, "test": kept, "valid": splits["valid"] + moved}, likes.COLD)
    alone = ranking.evaluate(likes.config(other, tmp_path / "run"), {"mine": folder})
    assert found["systems"]["mine"]["rare"] == alone["systems"]["mine"]["all"]
    assert found["protocol"]["rare"].endswith("fewer than 5 users")


def test_another_system_beside_it_changes_nothing(tmp_path: Path) -> None:
    likes.write(tmp_path / "data", likes.random_rows(), likes.COLD)
    config = likes.config(tmp_path / "data", tmp_path / "run")
    first = likes.vectors(tmp_path / "first", *likes.drawn(0))
    second = likes.vectors(tmp_path / "second", *likes.drawn(1))
    both = ranking.evaluate(config, {"base": first, "other": second})
    assert both["systems"]["other"] == ranking.evaluate(config, {"other": second})["systems"]["other"]
    assert both["systems"]["other"] != both["systems"]["base"]


def test_the_protocol_says_what_was_ranked(tmp_path: Path) -> None:
    likes.write(tmp_path / "data", likes.random_rows(), [*likes.COLD, "never rated"])
    config = likes.config(tmp_path / "data", tmp_path / "run", min_rows=10**6)
    found = ranking.evaluate(config, {"base": likes.vectors(tmp_path / "vectors", *likes.drawn(0))}, split="valid")
    assert (found["dataset"], found["split"], found["seeds"]) == ("tiny", "cold-items/valid", [3])
    assert found["protocol"]["candidates"] == {"all": 31, "warm": 15, "cold": 16}
    assert set(found["protocol"]) == {"candidates", "warm", "cold", "positives", "users", "masked", "ties", "sampled"}
    assert set(found["systems"]["base"]["all"]) == {"positives", "ranked_users"}  # too few


def test_too_few_items_to_sample_from_is_an_error_before_vectors_are_read(tmp_path: Path) -> None:
    likes.write(tmp_path / "data", likes.random_rows(), likes.COLD)
    folder = tmp_path / "no such vectors"
    config = likes.config(tmp_path / "data", tmp_path / "run", negatives=30)
    with pytest.raises(InputError, match=re.compile("user 'u.*candidates without a positive row.* asks for 30")):
        ranking.evaluate(config, {"base": folder})
