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
        width, *deeper = hidden
        # The first layer over [q, k, q - k, q * k] in three blocks: the query's part is computed once a row instead of
        # once a history item, and the difference folds into the other two. The same function at half the cost.
        self.of_query = nn.Linear(dim, width)
        self.of_key = nn.Linear(dim, width, bias=False)
        self.of_product = nn.Linear(dim, width, bias=False)
        self.deeper = MLP(width, deeper) if deeper else nn.Identity()
        self.score = nn.Linear(hidden[-1], 1)

    def forward(self, query_BD: Tensor, key_BLD: Tensor, label_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, D] float target, [B, L, D] float history, [B, L] int64 labels, [B, L] bool -> [B, D] float."""
        if self.label is not None:
            key_BLD = key_BLD + self.label(label_BL)
        query_B1D = query_BD.unsqueeze(1)
        hidden_BLH = self.of_query(query_B1D) + self.of_key(key_BLD) + self.of_product(query_B1D * key_BLD)
        score_BL = self.score(self.deeper(torch.relu(hidden_BLH))).squeeze(-1)
        weight_BL = score_BL.masked_fill(~mask_BL, torch.finfo(score_BL.dtype).min).softmax(dim=-1) * mask_BL
        return torch.einsum("bl,bld->bd", weight_BL, key_BLD)
