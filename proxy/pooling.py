"""g: attention over token states (IDProxy, section 3.1.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """softmax(H q / sqrt(width)) H for one learned query q; `width` is H.

    The first weights are equal: training starts from the mean.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, width))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, T, H] of any precision, [B, T] bool (True: a token) -> [B, H] float32; without a token, zero."""
        states = states.float()
        scores = states @ self.query[0] / states.shape[-1] ** 0.5
        # Finite, so that a row without a token stays free of NaN in forward and backward.
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1) * mask
        return torch.einsum("bt,bth->bh", weights, states)

    def every(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The same of each of L layers -> [B, L, H] float32."""
        return torch.stack([self(states, mask) for states in layers], dim=1)
