"""Propagation to cold items against the dense formula."""

import numpy as np
import pytest
import torch

from recsys.backbones.attached import attach
from recsys.backbones.graph import Graph
from recsys.errors import InputError
from recsys.model.backbones import NGCF, SLOPE, LightGCN, Propagating, make
from tests.backbones import planted

WIDTH, LAYERS = 4, 2
USER, ITEM = np.array([0, 3, 5, 3]), np.array([0, 0, 0, 2])


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return Graph.read(planted.write(tmp_path_factory.mktemp("planted") / "data"))


def shares(graph: Graph) -> np.ndarray:
    """[3, U]: 1 / sqrt(degrees) of each edge between a cold item and a user."""
    dense = np.zeros((3, len(graph.users)))
    dense[ITEM, USER] = 1
    return dense / np.sqrt(np.maximum(dense.sum(1), 1)[:, None] * graph.degrees()[0])


@pytest.mark.parametrize("kind", ["lightgcn", "ngcf"])
def test_a_cold_vector_is_made_of_its_users_states(graph: Graph, kind: str) -> None:
    torch.manual_seed(0)
    user, item = (torch.from_numpy(side) for side in graph.ends(graph.edges))
    model = make(kind, user, item, len(graph.users), len(graph.items), WIDTH, LAYERS)  # type: ignore[arg-type]
    with torch.no_grad():
        model.rows.normal_()
    before = model().detach().clone()
    rows = torch.randn(3, WIDTH)
    found = attach(model, graph, USER, ITEM, rows)
    assert isinstance(model, Propagating)
    dense, states = model.adjacency.to_dense().numpy(), [model.rows.detach().numpy()]
    cold = [rows.numpy()]
    for layer in range(LAYERS):
        made = []
        near = dense @ states[-1], shares(graph) @ states[-1][: len(graph.users)]
        for message, own in zip(near, (states[-1], cold[-1]), strict=True):
            if isinstance(model, NGCF):
                w1, w2 = (each[layer].get_parameter("weight").detach().numpy() for each in (model.own, model.shared))
                message = (message + own) @ w1.T + (message * own) @ w2.T
                message = np.where(message > 0, message, SLOPE * message)
            made.append(message)
        states.append(made[0])
        cold.append(made[1])
    expected = np.mean(cold, axis=0) if isinstance(model, LightGCN) else np.concatenate(cold, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model(), before)


def test_mf_propagates_nothing(graph: Graph) -> None:
    user, item = (torch.from_numpy(side) for side in graph.ends(graph.edges))
    model = make("mf", user, item, len(graph.users), len(graph.items), WIDTH, LAYERS)
    with pytest.raises(InputError, match="kind=mf propagates nothing: expected ngcf or lightgcn"):
        attach(model, graph, USER, ITEM, torch.zeros(3, WIDTH))
