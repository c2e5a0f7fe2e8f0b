"""Small batches for the prompt: lists that are full, short, empty and padded."""

import torch

from recsys.model.prompt import PromptInputs

D, F, N = 4, 3, 9
LENGTHS = [3, 1, 0, 2], [2, 3, 1, 0]
"""Users in the positive and negative lists of the four rows of a batch."""


def inputs(seed: int = 0, items: tuple[int, ...] = (1, 5, 5, 7)) -> PromptInputs:
    """Four rows with lists of at most three users."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    pos_mask, neg_mask = (torch.arange(3) < torch.tensor(lengths).unsqueeze(1) for lengths in LENGTHS)
    return PromptInputs(
        item_B=torch.tensor(items),
        h_BD=normal(4, D),
        user_BE=normal(4, D),
        logit_B=normal(4),
        pos_BKD=normal(4, 3, D),
        pos_mask_BK=pos_mask,
        neg_BKD=normal(4, 3, D),
        neg_mask_BK=neg_mask,
        features_BF=normal(4, F),
    )
