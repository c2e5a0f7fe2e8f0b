"""The ridge rival against scikit-learn: cold rows replaced, all else left as it was."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import Ridge

from recsys.backbones import vectors
from recsys.backbones.graph import Graph
from recsys.backbones.ridge import ridge
from recsys.config import Floor
from recsys.errors import InputError
from recsys.evaluate.vectors import read_vectors
from tests.backbones import planted


def test_cold_rows_are_predicted_from_content(tmp_path: Path) -> None:
    config = planted.config(planted.write(tmp_path / "data"), tmp_path / "run", Floor(ridge=[0.1]), cold_scales=[1.0])
    graph, random = Graph.read(tmp_path / "data"), np.random.default_rng(0)
    users, items = (random.normal(size=(len(ids), 3)).astype(np.float32) for ids in (graph.users, graph.items))
    content = random.normal(size=(len(graph.items), 5))
    told = np.arange(len(items)) != len(items) - 1
    order = np.flatnonzero(told)[::-1]
    pq.write_table(
        pa.table({"item_id": graph.items.take(order), "vector": list(content[order])}), tmp_path / "content.parquet"
    )
    with pytest.raises(InputError, match="expected vectors in"):
        ridge(config, tmp_path / "content.parquet")
    vectors.write(tmp_path / "run" / "backbone" / "mf" / "vectors", graph, users, items)
    found = read_vectors(ridge(config, tmp_path / "content.parquet"), graph.users, graph.items)

    warm, weight = slice(0, graph.warm), graph.degrees()[1][: graph.warm]
    assert np.array_equal(found.users, users) and np.array_equal(found.items[warm], items[warm])
    centred = content[warm] - np.average(content[warm], axis=0, weights=weight)
    penalty = 0.1 * np.trace(centred.T @ (weight[:, None] * centred)) / 5
    reference = Ridge(alpha=penalty).fit(content[warm], items[warm], sample_weight=weight)
    cold = reference.predict(content[graph.warm : -1])
    np.testing.assert_allclose(found.items[graph.warm : -1], cold, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.items[-1], np.average(items[warm], axis=0, weights=weight), rtol=1e-5)
