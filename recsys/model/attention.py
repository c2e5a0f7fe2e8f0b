"""Target attention over the history (DIN, Zhou et al., KDD 2018). Legend: B batch, L history length, D width."""

import torch
from torch import Tensor, nn
from torchrec.modules.mlp import MLP


class TargetAttention(nn.Module):
    """Weighs each history item by how it relates to the target item, then sums; several heads, one vector each.

    The activation unit is DIN's MLP over [query, key, query - key, query * key], with a term for the item's recency.
    Weights are a masked softmax, and the mask is applied once more after it, so that an empty history gives exactly
    zero. With labels, a key is its ID vector scaled and shifted by a vector learned for that label: what the user
    disliked can then count against an item.

    Example:
        >>> attention = TargetAttention(4, [8], heads=3, length=2, labels=True)
        >>> lengths = torch.tensor([1, 0])
        >>> out = attention(torch.ones(2, 4), torch.ones(2, 2, 4), torch.zeros(2, 2, dtype=torch.long), lengths)
        >>> out.shape, bool((out[1] == 0).all())
        (torch.Size([2, 3, 4]), True)
    """

    def __init__(self, dim: int, hidden: list[int], heads: int, length: int, labels: bool) -> None:
        """`length`: L, the longest history."""
        super().__init__()
        self.scale = nn.Embedding.from_pretrained(torch.ones(2, dim), freeze=False) if labels else None
        self.shift = nn.Embedding(2, dim) if labels else None
        width, *deeper = hidden
        # The first layer over [q, k, q - k, q * k] in three blocks: the query's part is computed once a row instead of
        # once a history item, and the difference folds into the other two. The same function at half the cost.
        self.of_query = nn.Linear(dim, width)
        self.of_key = nn.Linear(dim, width, bias=False)
        self.of_product = nn.Linear(dim, width, bias=False)
        self.of_recency = nn.Embedding.from_pretrained(torch.zeros(length, width), freeze=False)
        self.deeper = MLP(width, deeper) if deeper else nn.Identity()
        self.score = nn.Linear(hidden[-1], heads)

    def forward(self, query_BD: Tensor, key_BLD: Tensor, label_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Pool each history by each head.

        Args:
            query_BD: target items, float. key_BLD: histories, oldest first, float. label_BL: int64, 0 or 1.
            lengths_B: how many positions of each history are real.

        Returns:
            [B, heads, D] float.
        """
        if self.scale is not None and self.shift is not None:
            key_BLD = key_BLD * self.scale(label_BL) + self.shift(label_BL)
        age_BL = lengths_B.unsqueeze(1) - 1 - torch.arange(key_BLD.shape[1], device=key_BLD.device)
        mask_BL1 = (age_BL >= 0).unsqueeze(-1)
        query_B1D = query_BD.unsqueeze(1)
        hidden_BLH = self.of_query(query_B1D) + self.of_key(key_BLD) + self.of_product(query_B1D * key_BLD)
        hidden_BLH = torch.relu(hidden_BLH + self.of_recency(age_BL.clamp(min=0)))
        score_BLK = self.score(self.deeper(hidden_BLH))
        weight_BLK = score_BLK.masked_fill(~mask_BL1, torch.finfo(score_BLK.dtype).min).softmax(dim=1) * mask_BL1
        return torch.einsum("blk,bld->bkd", weight_BLK, key_BLD)
