"""Item proxies from frozen content vectors, trained with the ranker (IDProxy, section 3.2.2).

Legend: U distinct items, C and G widths of the coarse vectors and of the layer groups side by side, D embedding width,
K proxies of an item (1: coarse; 2: coarse and fine).
"""

import torch
from torch import Tensor, nn
from torchrec.modules.mlp import MLP


class Proxies(nn.Module):
    """The coarse proxy in the ranker's width, and the fine one that an adaptor and a residual gate make of the layers.

        p_raw  = MLP(layers)                              the adaptor
        r      = sigmoid(W_g [p_coarse, p_raw])           the gate
        p_fine = W_c p_coarse + r * p_raw

    A coarse vector of another width than D comes through a linear layer without a bias, which leaves the zeros of an
    item without content as they are.

    Example:
        >>> Proxies([4, 6], 4, [8])(torch.zeros(3, 4), torch.zeros(3, 6)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, widths: list[int], dim: int, hidden: list[int], dropout: float = 0.0) -> None:
        """`widths`: C, and G where there are layers. `hidden`: the adaptor's hidden sizes. `dropout`: of what is read.

        What an encoder says of an item tells it from all others: without dropout a map of it learns training items by
        heart. A coarse vector of width D is a proxy already and is left whole.
        """
        super().__init__()
        self.width = coarse = widths[0]
        layers = sum(widths[1:])
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(coarse, dim, bias=False) if coarse != dim else nn.Identity()
        self.adaptor = nn.Sequential(MLP(layers, hidden), nn.Linear(hidden[-1], dim)) if layers else None
        self.gate = nn.Linear(2 * dim, dim, bias=False) if layers else None
        self.carry = nn.Linear(dim, dim, bias=False) if layers else None

    def forward(self, coarse_UC: Tensor, layers_UG: Tensor | None = None) -> Tensor:
        """[U, K, D]: p_coarse, and p_fine where there are layers."""
        if layers_UG is None:
            return self._coarse(coarse_UC).unsqueeze(1)
        return torch.stack([self._coarse(coarse_UC), self.fine(coarse_UC, layers_UG)], dim=1)

    def fine(self, coarse_UC: Tensor, layers_UG: Tensor) -> Tensor:
        """[U, D] p_fine."""
        assert self.adaptor is not None and self.gate is not None and self.carry is not None
        coarse_UD, raw_UD = self._coarse(coarse_UC), self.adaptor(self.dropout(layers_UG))
        ratio_UD = self.gate(torch.cat([coarse_UD, raw_UD], dim=1)).sigmoid()
        return self.carry(coarse_UD) + ratio_UD * raw_UD

    def _coarse(self, coarse_UC: Tensor) -> Tensor:
        return coarse_UC if isinstance(self.project, nn.Identity) else self.project(self.dropout(coarse_UC))
