"""DSSM and SASRec against loops over positions, and that no state knows what comes after it."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, relu

from recsys.config_backbone import Backbone, Kind
from recsys.model.towers import DSSM, SASRec, Tower, make

USERS, ITEMS, WIDTH, LENGTH = 3, 7, 8, 4
HISTORY = torch.tensor([[1, 5, 5, 2], [0, 3, 6, 4], [2, 2, 1, 0]])


def model(kind: Kind, layers: int = 2, heads: int = 2) -> Tower:
    """In evaluation mode, with weights of length 1."""
    torch.manual_seed(0)
    made = make(USERS, ITEMS, Backbone(kind=kind, width=WIDTH, layers=layers, heads=heads, history=LENGTH))
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.5)
    return made.eval()


def states(made: Tower, history: Tensor = HISTORY) -> Tensor:
    with torch.no_grad():
        return made.states(torch.arange(len(history)), history)


def attended(block: torch.nn.TransformerEncoderLayer, rows: Tensor, heads: int) -> Tensor:
    """[n, D] attention of each row to itself and the rows before it, a head and a row at a time."""
    attention = block.self_attn
    query, key, value = linear(rows, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=1)
    size, found = WIDTH // heads, []
    for place in range(len(rows)):
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            weight = torch.softmax(key[: place + 1, own] @ query[place, own] / size**0.5, dim=0)
            parts.append(weight @ value[: place + 1, own])
        found.append(torch.cat(parts))
    return linear(torch.stack(found), attention.out_proj.weight, attention.out_proj.bias)


def test_sasrec_is_naive_attention() -> None:
    made = model("sasrec")
    assert isinstance(made, SASRec)
    for sequence, found in zip(HISTORY, states(made), strict=True):
        rows = torch.cat([made.start, made.rows[sequence] * WIDTH**0.5]) + made.positions
        for block in made.blocks:
            assert isinstance(block, torch.nn.TransformerEncoderLayer)
            normed = layer_norm(rows, (WIDTH,), block.norm1.weight, block.norm1.bias)
            rows = rows + attended(block, normed, heads=2)
            normed = layer_norm(rows, (WIDTH,), block.norm2.weight, block.norm2.bias)
            rows = rows + block.linear2(relu(block.linear1(normed)))
        torch.testing.assert_close(found, layer_norm(rows, (WIDTH,), made.norm.weight, made.norm.bias))
    assert made.items() is made.rows


def test_dssm_is_two_towers_over_means() -> None:
    made = model("dssm", layers=1)
    assert isinstance(made, DSSM)

    def tower(layers: torch.nn.Sequential, row: Tensor) -> Tensor:
        hidden, out = (layer for layer in layers if isinstance(layer, torch.nn.Linear))
        return linear(relu(linear(row, hidden.weight, hidden.bias)), out.weight, out.bias)

    for user, (sequence, found) in enumerate(zip(HISTORY, states(made), strict=True)):
        for taken in range(LENGTH + 1):
            mean = made.rows[sequence[:taken]].mean(dim=0) if taken else torch.zeros(WIDTH)
            torch.testing.assert_close(found[taken], tower(made.of_user, torch.cat([made.user_rows[user], mean])))
    for item in range(ITEMS):
        torch.testing.assert_close(made.items()[item], tower(made.of_item, made.rows[item]))


@pytest.mark.parametrize("kind", ["dssm", "sasrec"])
def test_a_later_item_changes_no_earlier_state(kind: Kind) -> None:
    made = model(kind)
    before = states(made)
    for place in range(LENGTH):
        changed = HISTORY.clone()
        changed[:, place] = (changed[:, place] + 1) % ITEMS
        after = states(made, changed)
        torch.testing.assert_close(after[:, : place + 1], before[:, : place + 1], rtol=0, atol=1e-6)
        assert ((after - before)[:, place + 1 :].abs().amax(dim=2) > 1e-3).all()


@pytest.mark.parametrize("kind", ["dssm", "sasrec"])
def test_dropout_acts_in_training_alone(kind: Kind) -> None:
    made = model(kind)
    assert torch.equal(states(made), states(made))
    made.train()
    assert not np.allclose(states(made), states(made))
