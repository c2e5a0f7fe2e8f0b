"""The proxy alignment loss (IDProxy, eq. 1), and its gradient for batches larger than an encoder's memory.

Legend: B batch of all ranks, b this rank's share, D width.

    L = -1/B sum_i log( exp(h_i . e_i / t) / sum_j exp(h_i . e_j / t) )          h, e of length 1; i, j in the batch

Only h is trained, e is the ranker's, so a rank's share of L needs the whole batch's e but nobody else's h: the ranks'
gradients, summed, are those of L.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

COLDEST, WARMEST = 0.01, 1.0
"""Bounds of the temperature."""


class Temperature(nn.Module):
    """t, kept as its logarithm."""

    def __init__(self, value: float, learned: bool) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(value)), requires_grad=learned)

    def forward(self) -> Tensor:
        """[] t."""
        return self.log.exp()

    @torch.no_grad()
    def bound(self) -> None:
        """Put t back between COLDEST and WARMEST, after a step of the optimizer."""
        self.log.clamp_(math.log(COLDEST), math.log(WARMEST))


def alignment_loss(h: Tensor, e: Tensor, own: Tensor, items: Tensor, temperature: Tensor) -> Tensor:
    """[] this rank's share of L; over the ranks it adds up to L.

    An item that is in the batch more than once is not its own negative.

    Args:
        h: [b, D] proxies of this rank's share.
        e: [B, D] ID vectors of the whole batch.
        own: [b] int64, where in the batch the share is.
        items: [B] int64, which item each of the batch is.
        temperature: [] t.
    """
    logits = h @ e.T / temperature
    same = items[own, None] == items[None, :]
    same[torch.arange(len(own), device=own.device), own] = False
    return cross_entropy(logits.masked_fill(same, -torch.inf), own, reduction="sum") / len(e)


def backward(
    encode: Callable[[int], Tensor],
    seeds: Sequence[int],
    loss_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """Accumulate the gradient of `loss_of` all chunks' outputs with the graph of one chunk at a time (GradCache).

    Gao et al. (2021), arXiv:2101.06983: outputs first, without a graph; the loss's gradient by them; then each chunk
    again, with a graph, from that gradient. Both passes of a chunk draw the same dropout, since both begin from its
    seed. A single chunk is passed once. The global random state is left as it was on the CPU, seeded on a GPU.

    Args:
        encode: k -> [n_k, D] outputs of the k-th chunk, in the same numbers each time it is asked.
        seeds: one a chunk.
        loss_of: [sum of n_k, D] -> []; its own parameters get their gradients, too.

    Returns:
        [] the loss, detached.
    """

    def seeded(k: int) -> Tensor:
        torch.manual_seed(seeds[k])
        return encode(k)

    with torch.random.fork_rng(devices=[]):
        if len(seeds) == 1:
            loss = loss_of(seeded(0))
            loss.backward()
            return loss.detach()
        with torch.no_grad():
            parts = [seeded(k) for k in range(len(seeds))]
        outputs = torch.cat(parts).requires_grad_()
        loss = loss_of(outputs)
        loss.backward()
        assert outputs.grad is not None
        for k, gradient in enumerate(outputs.grad.split([len(part) for part in parts])):
            seeded(k).backward(gradient)
    return loss.detach()
