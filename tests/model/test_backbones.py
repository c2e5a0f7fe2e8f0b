"""Backbones against their equations, in dense matrices and in loops over nodes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.model.backbones import INIT_STD, MF, NGCF, SLOPE, LightGCN, bpr, make, normalised, propagate

USERS, ITEMS, WIDTH = 5, 6, 4
EDGES = [(0, 0), (0, 1), (0, 4), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (4, 4)]
"""User 3 and item 5 have none."""
ALONE = [3, USERS + 5]
USER, ITEM = (torch.tensor(side) for side in zip(*EDGES, strict=True))


def by_hand() -> Tensor:
    """D^-1/2 A D^-1/2, dense."""
    dense = torch.zeros(USERS + ITEMS, USERS + ITEMS)
    for user, item in EDGES:
        dense[user, USERS + item] = dense[USERS + item, user] = 1
    degree = dense.sum(0)
    scale = torch.where(degree > 0, degree.clamp(min=1) ** -0.5, 0)
    return scale[:, None] * dense * scale


def test_the_adjacency_is_the_dense_formula() -> None:
    torch.testing.assert_close(normalised(USER, ITEM, USERS, ITEMS).to_dense(), by_hand())


def test_gradients_flow_through_a_propagation() -> None:
    state = torch.randn(USERS + ITEMS, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.randn(USERS + ITEMS, WIDTH, generator=torch.Generator().manual_seed(1))
    sparse, dense = (propagate(normalised(USER, ITEM, USERS, ITEMS), state) * weight).sum(), by_hand() @ state
    torch.testing.assert_close(
        *(torch.autograd.grad(total, state)[0] for total in (sparse, (dense * weight).sum())), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("layers", [1, 3])
def test_lightgcn_is_the_mean_over_propagations(layers: int) -> None:
    torch.manual_seed(0)
    model = LightGCN(normalised(USER, ITEM, USERS, ITEMS), WIDTH, layers)
    powers = [torch.linalg.matrix_power(by_hand(), k) @ model.rows for k in range(layers + 1)]
    torch.testing.assert_close(model(), torch.stack(powers).mean(0))
    torch.testing.assert_close(model()[ALONE], model.rows[ALONE] / (layers + 1))


def test_ngcf_is_the_sum_of_messages() -> None:
    torch.manual_seed(0)
    model = NGCF(normalised(USER, ITEM, USERS, ITEMS), WIDTH, 2)
    near: list[list[int]] = [[] for _ in range(USERS + ITEMS)]
    for user, item in EDGES:
        near[user].append(USERS + item)
        near[USERS + item].append(user)
    state = (model.rows / INIT_STD).detach()  # of length 1, so that the products count
    with torch.no_grad():
        model.rows.copy_(state)
    layers = [state.numpy()]
    for own, shared in zip(model.own, model.shared, strict=True):
        w1, w2 = (each.get_parameter("weight").detach().numpy() for each in (own, shared))
        before, rows = layers[-1], []
        for node, neighbours in enumerate(near):
            message = w1 @ before[node]
            for other in neighbours:
                decay = 1 / np.sqrt(len(near[node]) * len(near[other]))
                message = message + decay * (w1 @ before[other] + w2 @ (before[other] * before[node]))
            rows.append(np.where(message > 0, message, SLOPE * message))
        layers.append(np.array(rows, np.float32))
    torch.testing.assert_close(model().detach(), torch.from_numpy(np.concatenate(layers, axis=1)), rtol=1e-4, atol=1e-5)


def test_mf_is_its_rows_and_every_kind_has_a_vector_for_each_node() -> None:
    model = make("mf", USER, ITEM, USERS, ITEMS, WIDTH, 2)
    assert type(model) is MF and torch.equal(model(), model.rows)
    widths = {"mf": WIDTH, "lightgcn": WIDTH, "ngcf": 3 * WIDTH}
    for kind, width in widths.items():
        assert make(kind, USER, ITEM, USERS, ITEMS, WIDTH, 2)().shape == (USERS + ITEMS, width)  # type: ignore[arg-type]


def test_bpr_is_the_mean_log_loss_of_differences() -> None:
    random = np.random.default_rng(0)
    user, positive, negative = random.normal(size=(3, 7, WIDTH))
    expected = np.mean([np.log(1 + np.exp(-(u @ p - u @ n))) for u, p, n in zip(user, positive, negative, strict=True)])
    found = bpr(*(torch.from_numpy(side) for side in (user, positive, negative)))
    assert float(found) == pytest.approx(expected, rel=1e-9)
