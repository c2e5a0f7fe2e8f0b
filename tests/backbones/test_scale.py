"""The length of cold vectors against trying each by hand."""

from pathlib import Path

import numpy as np

from recsys.backbones import scale
from recsys.backbones.graph import Graph
from recsys.evaluate.vectors import Vectors
from tests.backbones import planted
from tests.evaluate import likes


def recall(users: np.ndarray, items: np.ndarray) -> float:
    """Mean Recall@20 of all items in split=valid."""
    splits, names = planted.rows(), planted.WARM + planted.COLD
    found = []
    for row, user in enumerate(planted.USERS):
        masked = {item for who, item, label in splits["train"] if who == user and label}
        wanted = {item for who, item, label in splits["valid"] if who == user and label} - masked
        order = [names[place] for place in np.argsort(-(items @ users[row]))]
        found.append(len(wanted & set([name for name in order if name not in masked][:20])) / len(wanted))
    return float(np.mean(found))


def test_it_is_the_one_with_the_best_ranking_of_all_items_and_moves_no_warm_vector(tmp_path: Path) -> None:
    factors = [0.01, 1.0, 30.0]
    config = planted.config(planted.write(tmp_path / "data"), tmp_path / "run", cold_scales=factors)
    graph, random = Graph.read(tmp_path / "data"), np.random.default_rng(0)
    users, items = (random.random((n, 3)).astype(np.float32) for n in (60, len(graph.items)))
    items[graph.warm + 3 :] *= -1  # what nobody takes in validation
    none, chosen = np.zeros(0, bool), set()
    for length in (0.02, -0.02, 50.0):
        cold = items[graph.warm :].astype(np.float64) * length
        found, factor = scale.placed(config, graph, Vectors(users, items, none, none), cold)
        tried = [recall(users, np.concatenate([items[: graph.warm], cold * each])) for each in factors]
        assert factor == factors[int(np.argmax(tried))]
        assert np.array_equal(found[: graph.warm], items[: graph.warm])
        np.testing.assert_allclose(found[graph.warm :], cold * factor, rtol=1e-6)
        chosen.add(factor)
    assert len(chosen) > 1


def test_where_validation_knows_no_cold_item_it_is_the_first(tmp_path: Path) -> None:
    splits = planted.rows()
    splits["valid"] = [row for row in splits["valid"] if row[1] not in planted.COLD]
    likes.write(tmp_path / "data", splits, planted.COLD)
    config = planted.config(tmp_path / "data", tmp_path / "run", cold_scales=[3.0, 1.0])
    graph = Graph.read(tmp_path / "data")
    users, items = (np.ones((n, 2), np.float32) for n in (60, len(graph.items)))
    vectors = Vectors(users, items, np.zeros(0, bool), np.zeros(0, bool))
    assert scale.placed(config, graph, vectors, np.ones((len(planted.COLD), 2)))[1] == 3.0
