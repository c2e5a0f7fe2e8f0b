"""Target attention against DIN's formula written out, one row and one history item at a time."""

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from recsys.model.attention import TargetAttention

B, L, D, HIDDEN, HEADS = 5, 4, 6, [7, 3], 2
LENGTHS = torch.tensor([4, 0, 1, 3, 2])


def made(labels: bool = True, recency: bool = True) -> TargetAttention:
    torch.manual_seed(0)
    attention = TargetAttention(D, HIDDEN, HEADS, L, labels)
    # Every parameter random: those that start at zero or one would hide a mistake.
    for name, parameter in attention.named_parameters():
        if recency or "recency" not in name:
            nn.init.normal_(parameter, std=0.7)
    return attention.double()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    order = torch.Generator().manual_seed(1)
    query = torch.randn(B, D, generator=order, dtype=torch.float64)
    key = torch.randn(B, L, D, generator=order, dtype=torch.float64)
    return query, key, torch.randint(0, 2, (B, L), generator=order)


def din(attention: TargetAttention, q: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
    """[heads, D] by the paper: softmax over the history of MLP([q, k, q - k, q * k]), times the keys.

    The first layer is one [H, 4 D] matrix on the four blocks; three factors of it stand in the module, so the block of
    the difference, which any split of the other two serves, is chosen at random.
    """
    difference = torch.randn(HIDDEN[0], D, dtype=torch.float64)
    first = torch.cat(
        [
            attention.of_query.weight - difference,
            attention.of_key.weight + difference,
            difference,
            attention.of_product.weight,
        ],
        dim=1,
    )
    scores, moved = [], []
    for position, (key, label) in enumerate(zip(keys, labels.tolist(), strict=True)):
        k = key
        if attention.scale is not None and attention.shift is not None:
            k = key * attention.scale.weight[label] + attention.shift.weight[label]
        hidden = first @ torch.cat([q, k, q - k, q * k]) + attention.of_query.bias
        hidden = torch.relu(hidden + attention.of_recency.weight[len(keys) - 1 - position])
        scores.append(attention.score(attention.deeper(hidden.unsqueeze(0)))[0])
        moved.append(k)
    weights = torch.stack(scores).exp()
    weights = weights / weights.sum(0)
    return torch.stack([sum(w * k for w, k in zip(weights[:, head], moved, strict=True)) for head in range(HEADS)])


@pytest.mark.parametrize("labels", [True, False])
def test_it_is_dins_formula(labels: bool) -> None:
    attention, (query, key, label) = made(labels), inputs()
    out = attention(query, key, label, LENGTHS)
    assert out.shape == (B, HEADS, D)
    for b, length in enumerate(LENGTHS.tolist()):
        if length:
            torch.testing.assert_close(out[b], din(attention, query[b], key[b, :length], label[b, :length]))


def test_one_hidden_layer_is_enough() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(D, [5], 1, L, labels=False).double()
    query, key, label = inputs()
    assert attention(query, key, label, LENGTHS).shape == (B, 1, D)


def test_an_empty_history_gives_exactly_zero_and_no_gradient() -> None:
    attention, (query, key, label) = made(), inputs()
    key.requires_grad_()
    out = attention(query, key, label, LENGTHS)
    assert (out[1] == 0).all()
    out.sum().backward()
    assert key.grad is not None and (key.grad[1] == 0).all() and torch.isfinite(key.grad).all()


def test_what_stands_in_the_padding_does_not_matter() -> None:
    attention, (query, key, label) = made(), inputs()
    out = attention(query, key, label, LENGTHS)
    padding = torch.arange(L) >= LENGTHS.unsqueeze(1)
    key[padding], label[padding] = 1e6, 1 - label[padding]
    assert torch.equal(attention(query, key, label, LENGTHS), out)


def test_a_longer_padding_does_not_matter() -> None:
    attention, (query, key, label) = made(), inputs()
    short = attention(query[2:3], key[2:3, :1], label[2:3, :1], LENGTHS[2:3])
    torch.testing.assert_close(attention(query, key, label, LENGTHS)[2:3], short)


def test_only_recency_knows_the_order() -> None:
    query, key, label = inputs()
    with_recency, without = made(), made(recency=False)
    plain = without(query[:1], key[:1], label[:1], LENGTHS[:1])
    aware = with_recency(query[:1], key[:1], label[:1], LENGTHS[:1])
    for order in list(permutations(range(L)))[1:]:
        shuffled = query[:1], key[:1, list(order)], label[:1, list(order)], LENGTHS[:1]
        torch.testing.assert_close(without(*shuffled), plain)
        assert not torch.allclose(with_recency(*shuffled), aware)


def test_labels_tell_liked_from_not_liked() -> None:
    attention, (query, key, label) = made(), inputs()
    out, turned = (attention(query, key, each, LENGTHS) for each in (label, 1 - label))
    assert (out[LENGTHS > 0] != turned[LENGTHS > 0]).any(-1).all()
    assert TargetAttention(D, HIDDEN, 1, L, labels=False).scale is None


def test_extreme_scores_stay_finite() -> None:
    attention, (query, key, label) = made(), inputs()
    assert torch.isfinite(attention(1e4 * query, 1e4 * key, label, LENGTHS)).all()
    half = attention.bfloat16()(query.bfloat16(), key.bfloat16(), label, LENGTHS)
    assert torch.isfinite(half).all() and (half[1] == 0).all()
