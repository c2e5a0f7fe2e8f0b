"""The atomic ID slot: the one place where an item's ID vector is made."""

from torch import Tensor, nn


class IDSlot(nn.Module):
    """What stands for an item wherever the ranker uses its ID: in crossing, as attention query, at history positions.

    Now the ID vector alone. Because every use goes through this module, another source (a content proxy) that joins
    here reaches all three places at once.

    Example:
        >>> import torch
        >>> IDSlot()(torch.ones(2, 4)).shape
        torch.Size([2, 4])
    """

    def forward(self, id_D: Tensor) -> Tensor:
        """[..., D] ID vectors -> [..., D] slot vectors."""
        return id_D
