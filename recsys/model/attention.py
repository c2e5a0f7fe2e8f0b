"""Target attention over the history (DIN, Zhou et al., KDD 2018). Legend: B batch, L history length, D width."""

import torch
from torch import Tensor, nn
from torchrec.modules.mlp import MLP


class TargetAttention(nn.Module):
    """Weighs each history item by how it relates to the target item, then sums.

    The activation unit is DIN's MLP over [query, key, query - key, query * key]. Weights are a masked softmax, and the
    mask is applied once more after it, so that an empty history gives exactly zero.

    Example:
        >>> attention = TargetAttention(4, [8], labels=True)
        >>> mask = torch.tensor([[True, False], [False, False]])
        >>> out = attention(torch.ones(2, 4), torch.ones(2, 2, 4), torch.zeros(2, 2, dtype=torch.long), mask)
        >>> out.shape, bool((out[1] == 0).all())
        (torch.Size([2, 4]), True)
    """

    def __init__(self, dim: int, hidden: list[int], labels: bool) -> None:
        """`labels`: add a learned vector for liked (1) and not liked (0) to each key."""
        super().__init__()
        self.label = nn.Embedding(2, dim) if labels else None
        self.unit = MLP(4 * dim, hidden)
        self.score = nn.Linear(hidden[-1], 1)

    def forward(self, query_BD: Tensor, key_BLD: Tensor, label_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, D] float target, [B, L, D] float history, [B, L] int64 labels, [B, L] bool -> [B, D] float."""
        if self.label is not None:
            key_BLD = key_BLD + self.label(label_BL)
        query_BLD = query_BD.unsqueeze(1).expand_as(key_BLD)
        pair_BLE = torch.cat([query_BLD, key_BLD, query_BLD - key_BLD, query_BLD * key_BLD], dim=-1)
        score_BL = self.score(self.unit(pair_BLE)).squeeze(-1)
        weight_BL = score_BL.masked_fill(~mask_BL, torch.finfo(score_BL.dtype).min).softmax(dim=-1) * mask_BL
        return torch.einsum("bl,bld->bd", weight_BL, key_BLD)
