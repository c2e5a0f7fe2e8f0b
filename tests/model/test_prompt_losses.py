"""Equations 8, 9, 11 and 12 of PROMO against loops over pairs."""

import math

import pytest
import torch
from torch import Tensor

from recsys.model.prompt_losses import BLOCK, distance, pape, pfpe
from tests.model.prompted import inputs


def test_pfpe_of_two_lists_by_hand() -> None:
    positive, negative = torch.tensor([[[0.0, 0.0], [1.0, -1.0]]]), torch.tensor([[[0.5, 0.0], [9.0, 9.0]]])
    found = pfpe(positive, negative, torch.tensor([[True, True]]), torch.tensor([[True, False]]))
    # |0 - 0.5| + |0 - 0| and |1 - 0.5| + |-1 - 0|, each over two outputs: 0.25 and 0.75
    assert found.item() == pytest.approx(math.log(1 + math.exp(-0.5)))


def test_pfpe_is_the_loop_over_pairs_and_zero_where_a_list_is_empty() -> None:
    given = inputs()
    found = pfpe(given.pos_BKD, given.neg_BKD[:, :2], given.pos_mask_BK, given.neg_mask_BK[:, :2])
    for b in range(4):
        pairs = [
            (x - y).abs().mean()
            for x in given.pos_BKD[b][given.pos_mask_BK[b]]
            for y in given.neg_BKD[b, :2][given.neg_mask_BK[b, :2]]
        ]
        expected = torch.log(1 + torch.exp(-torch.stack(pairs).mean())) if pairs else torch.zeros(())
        torch.testing.assert_close(found[b], expected)
    assert (found == 0).tolist() == [False, False, True, True]


def test_pfpe_drives_apart_the_users_of_both_lists_and_no_padding() -> None:
    given = inputs()
    positive, negative = given.pos_BKD.clone().requires_grad_(), given.neg_BKD.clone().requires_grad_()
    pfpe(positive, negative, given.pos_mask_BK, given.neg_mask_BK).sum().backward()
    assert positive.grad is not None and negative.grad is not None
    full = (given.pos_mask_BK.any(1) & given.neg_mask_BK.any(1)).unsqueeze(1)
    assert torch.equal(positive.grad.any(2), given.pos_mask_BK & full)
    assert torch.equal(negative.grad.any(2), given.neg_mask_BK & full)
    with torch.no_grad():
        step = positive - 0.1 * positive.grad, negative - 0.1 * negative.grad
        before = pfpe(positive, negative, given.pos_mask_BK, given.neg_mask_BK)
        assert pfpe(*step, given.pos_mask_BK, given.neg_mask_BK).sum() < before.sum()


def test_lists_without_places_are_empty_ones() -> None:
    none = torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool)
    some = torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    assert pfpe(none[0], some[0], none[1], some[1]).tolist() == [0.0, 0.0]
    assert pfpe(some[0], none[0], some[1], none[1]).tolist() == [0.0, 0.0]


LOGIT = torch.tensor([0.5, -1.0, 2.0, 0.25, 3.0, -0.5, 7.0])
LABEL = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
COLD = torch.tensor([True, True, False, False, False, True, True])
WEIGHT = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])


def test_pape_is_the_loop_over_pairs_of_cold_positives_and_warm_negatives() -> None:
    # (0.5, -1) against (0.25, 3): 0.25 - 2.5 - 1.25 - 4, a quarter of it
    found = pape(LOGIT, LABEL, WEIGHT, COLD)
    assert found.item() == pytest.approx(math.log(1 + math.exp(1.875)))
    pairs = [
        LOGIT[a] - LOGIT[b] for a in range(6) for b in range(6) if LABEL[a] and COLD[a] and not LABEL[b] and not COLD[b]
    ]
    torch.testing.assert_close(found, torch.log(1 + torch.exp(-torch.stack(pairs).mean())))


@pytest.mark.parametrize(
    ("label", "cold"),
    [(LABEL, torch.zeros(7).bool()), (LABEL, torch.ones(7).bool()), (1 - LABEL, COLD), (torch.ones(7), COLD)],
    ids=["no cold", "no warm", "other pairs", "no negative"],
)
def test_pape_is_zero_where_a_side_is_empty(label: Tensor, cold: Tensor) -> None:
    logit = LOGIT.clone().requires_grad_()
    loss = pape(logit, label, WEIGHT, cold)
    loss.backward()
    assert logit.grad is not None and logit.grad.isfinite().all()
    positive, negative = (WEIGHT * label * cold).any(), (WEIGHT * (1 - label) * ~cold).any()
    assert (loss.item() == 0) == (not (positive and negative)) and bool(logit.grad.any()) == bool(loss)


def test_distances_and_their_gradients_are_those_of_cdist_over_several_blocks() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(BLOCK // 400, k, 64, generator=draw).requires_grad_() for k in (4, 5))
    with torch.no_grad():
        other[0, 0] = one[0, 0]  # where they are equal, nothing moves them apart
    real_one, real_other = (torch.rand(each.shape[:2], generator=draw) < 0.8 for each in (one, other))
    real_one[:20], real_other[:20] = True, True  # a block without padding
    weights = torch.randn(len(one), generator=draw)
    ours = distance(one, other, real_one, real_other)
    torchs = (torch.cdist(one, other, p=1) * (real_one.unsqueeze(2) & real_other.unsqueeze(1))).sum(dim=(1, 2))
    torch.testing.assert_close(ours, torchs)
    for found, expected in zip(
        *(torch.autograd.grad(each, (one, other), weights) for each in (ours, torchs)), strict=True
    ):
        torch.testing.assert_close(found, expected)
