"""g against a loop over items and tokens."""

import torch

from proxy.pooling import AttentionPool


def test_pooling_is_attention_by_a_learned_query() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(8)
    torch.nn.init.normal_(pool.query)
    states, lengths = torch.randn(3, 5, 8), [5, 1, 3]
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    found = pool(states, mask)
    for item, length in enumerate(lengths):
        tokens = states[item, :length]
        weights = torch.softmax(tokens @ pool.query[0] / 8**0.5, dim=0)
        torch.testing.assert_close(found[item], (weights.unsqueeze(1) * tokens).sum(0))
    assert torch.equal(pool.every([states, -states], mask), torch.stack([found, pool(-states, mask)], dim=1))


def test_pooling_starts_from_the_mean_and_reads_half_precision() -> None:
    states = torch.randn(2, 4, 8).bfloat16()
    found = AttentionPool(8)(states, torch.ones(2, 4, dtype=torch.bool))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, states.float().mean(1))


def test_an_item_without_a_token_is_zero_and_harms_no_gradient() -> None:
    pool = AttentionPool(8)
    states = torch.randn(2, 4, 8, requires_grad=True)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    found = pool(states, mask)
    assert not found[1].any() and found[0].any()
    found.square().sum().backward()
    assert states.grad is not None and pool.query.grad is not None
    assert states.grad.isfinite().all() and pool.query.grad.isfinite().all() and pool.query.grad.any()
    assert not states.grad[~mask].any()
