"""Equation 1 and its gradient against a few lines of plain PyTorch."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from proxy.loss import COLDEST, WARMEST, Temperature, alignment_loss, backward


@pytest.fixture(autouse=True)
def _doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch(count: int, dim: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return normalize(torch.randn(count, dim)).requires_grad_(), normalize(torch.randn(count, dim))


def test_it_is_equation_1() -> None:
    h, e = batch(7)
    everything = torch.arange(7)
    found = alignment_loss(h, e, everything, everything, torch.tensor(0.2))
    by_hand = 0.0
    for i in range(7):
        exponentials = [math.exp(float(h[i].detach() @ e[j]) / 0.2) for j in range(7)]
        by_hand -= math.log(exponentials[i] / sum(exponentials)) / 7
    assert found.item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_the_ranks_shares_and_their_gradients_add_up(ranks: int) -> None:
    h, e = batch(7)
    temperature = Temperature(0.3, learned=True)
    everything = torch.arange(7)
    whole = alignment_loss(h, e, everything, everything, temperature())
    expected = torch.autograd.grad(whole, [h, temperature.log])
    own = [everything[rank::ranks] for rank in range(ranks)]  # with 8 the last has none
    parts = [alignment_loss(h[at], e, at, everything, temperature()) for at in own]
    total = torch.stack(parts).sum()
    torch.testing.assert_close(total, whole)
    for found, wanted in zip(torch.autograd.grad(total, [h, temperature.log]), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_an_item_there_twice_is_not_its_own_negative() -> None:
    h, e = batch(6)
    items = torch.tensor([3, 1, 3, 2, 3, 1])
    e = e[torch.tensor([0, 1, 0, 3, 0, 1])]
    found = alignment_loss(h, e, torch.arange(6), items, torch.tensor(0.2))
    by_hand = torch.zeros(())
    for i in range(6):
        negatives = [h[i] @ e[j] / 0.2 for j in range(6) if items[j] != items[i]]
        own = h[i] @ e[i] / 0.2
        by_hand = by_hand - (own - torch.logsumexp(torch.stack([own, *negatives]), 0)) / 6
    torch.testing.assert_close(found, by_hand)


def test_the_temperature_stays_within_its_bounds_and_learns_only_if_asked() -> None:
    for start, gradient, bound in ((0.012, 1.0, COLDEST), (0.9, -1.0, WARMEST)):
        temperature = Temperature(start, learned=True)
        step = torch.optim.SGD(temperature.parameters(), lr=1.0)
        temperature.log.grad = torch.tensor(gradient)
        step.step()
        temperature.bound()
        assert float(temperature().detach()) == pytest.approx(bound)
    assert not Temperature(0.1, learned=False).log.requires_grad


class Network(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 32), nn.Dropout(0.4), nn.Tanh(), nn.Linear(32, 5))


@pytest.mark.parametrize("sizes", [[8], [3, 4, 1], [1] * 8])
def test_cached_gradients_are_those_of_the_plain_loss_under_the_same_dropout(sizes: list[int]) -> None:
    torch.manual_seed(0)
    network, temperature = Network(), Temperature(0.2, learned=True)
    x, (_, e) = torch.randn(8, 6), batch(8)
    chunks = x.split(sizes)
    seeds = list(range(10, 10 + len(sizes)))
    parameters = [*network.parameters(), temperature.log]

    def loss_of(h: Tensor) -> Tensor:
        return alignment_loss(normalize(h), e, torch.arange(8), torch.arange(8), temperature())

    outputs = []
    for chunk, seed in zip(chunks, seeds, strict=True):
        torch.manual_seed(seed)
        outputs.append(network(chunk))
    plain = loss_of(torch.cat(outputs))
    expected = torch.autograd.grad(plain, parameters)
    before = torch.get_rng_state()
    found = backward(lambda k: network(chunks[k]), seeds, loss_of)
    torch.testing.assert_close(found, plain.detach())
    for parameter, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_chunk_of_cached_gradients_holds_no_other_chunks_graph() -> None:
    """What autograd keeps for backward, in the largest pass, is that of the largest chunk and of the loss."""
    network, x = Network(), torch.randn(64, 6)
    _, e = batch(64)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept[-1] += tensor.numel()
        return tensor

    def encode(k: int) -> Tensor:
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return network(x[8 * k : 8 * k + 8])

    backward(encode, range(8), lambda h: alignment_loss(h, e, torch.arange(64), torch.arange(64), torch.tensor(0.1)))
    assert kept[:8] == [0] * 8 and len(kept) == 16
    assert len(set(kept[8:])) == 1 and kept[8] > 0
