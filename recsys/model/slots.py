"""The atomic ID slot: the one place where an item's ID vector is made."""

from torch import Tensor, nn


class IDSlot(nn.Module):
    """What stands for an item wherever the ranker uses its ID: in crossing, as attention query, at history positions.

    The ID vector alone, or with K proxies  e + W [p_1, ..., p_K]  of the same width. W begins at zero: the ranker
    starts as the one without proxies, to the bit, and every structure that reads IDs meets the proxies only as far as
    the loss asks for them. A matrix on e as well would add nothing: e is free to learn what it would do. What W gives
    depends on the item alone, so it is computed once an item of a batch.

    Example:
        >>> import torch
        >>> slot = IDSlot(4, proxies=2)
        >>> slot(torch.ones(3, 4), slot.shift(torch.ones(3, 2, 4))).equal(torch.ones(3, 4))
        True
    """

    def __init__(self, dim: int = 0, proxies: int = 0) -> None:
        """`dim`: D. `proxies`: K; 0 is the ID vector alone."""
        super().__init__()
        self.fuse = nn.Linear(proxies * dim, dim, bias=False) if proxies else None
        if self.fuse is not None:
            nn.init.zeros_(self.fuse.weight)

    def shift(self, proxies_KD: Tensor) -> Tensor:
        """[..., K, D] proxies -> [..., D], what they add to an item's ID vector."""
        assert self.fuse is not None
        return self.fuse(proxies_KD.flatten(-2))

    def forward(self, id_D: Tensor, shift_D: Tensor | None = None) -> Tensor:
        """[..., D] ID vectors, and what proxies add to them -> [..., D] slot vectors."""
        return id_D if shift_D is None else id_D + shift_D
