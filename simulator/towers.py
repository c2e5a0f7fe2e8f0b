"""The filter's towers and what they are trained by.

Two pairs of towers, whose scores are added: side by side in one vector, their dot product is the filter's score
(LLM-InS, eq. 16; ColdLLM joins its pairs so, too).

    behaviour    F_U(e_u) . F_I(content): BPR (ColdLLM, eq. 16) and ALDI's alignment with the host (LLM-InS, eq. 15)
    language     coldllm: F_U(e_u) . F_I(content): BPR and the coupled loss (ColdLLM, eq. 17)
                 llm-ins: F_U(c_u) . F_I(content): BCE (LLM-InS, eqs. 8 to 11)

Legend: B interactions of a batch, D width of a pair, H of the content; u, i a user and an item that they took,
j another item, v another user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus


class Pair(nn.Module):
    """A user's tower and an item's: multilayer perceptrons, whose dot product is the score."""

    def __init__(self, inputs: tuple[int, int], hidden: Sequence[int], width: int) -> None:
        """`inputs`: widths of what the user's and the item's tower read."""
        super().__init__()
        self.user, self.item = (tower(read, hidden, width) for read in inputs)


def tower(read: int, hidden: Sequence[int], width: int) -> nn.Sequential:
    """Linear layers with a ReLU between two of them."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(read, size), nn.ReLU()]
        read = size
    return nn.Sequential(*layers, nn.Linear(read, width))


class ItemTowers(nn.Module):
    """What makes an item's filter vector of its content: the item towers of all pairs, side by side."""

    mean: Tensor
    size: Tensor

    def __init__(self, towers: Sequence[nn.Module], mean: Tensor, size: Tensor) -> None:
        """`mean` [H] and `size`, one number: what content is centred and scaled by before the towers read it."""
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.register_buffer("mean", mean)
        self.register_buffer("size", size)

    def forward(self, content: Tensor) -> Tensor:
        """Content vectors [n, H] as they are -> [n, D] of all pairs."""
        read = (content - self.mean) / self.size
        return torch.cat([tower(read) for tower in self.towers], dim=1)


@dataclass(frozen=True)
class Batch:
    """Vectors [B, D] of one pair of towers, or of the host."""

    user: Tensor
    item: Tensor
    other_item: Tensor
    other_user: Tensor

    @cached_property
    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """[B] each of (u, i), (u, j) and (v, i)."""
        return _dot(self.user, self.item), _dot(self.user, self.other_item), _dot(self.other_user, self.item)


def ranking(made: Batch, user_negatives: float) -> Tensor:
    """BPR over items (ColdLLM, eq. 16), and over users, which the paper has not, though it ranks them."""
    taken, other_item, other_user = made.scores
    return softplus(other_item - taken).mean() + user_negatives * softplus(other_user - taken).mean()


def clicking(made: Batch, user_negatives: float) -> Tensor:
    """BCE of taken against not taken (LLM-InS, eqs. 10 and 11), negatives weighing what the taken do."""
    taken, other_item, other_user = made.scores
    negative = softplus(other_item).mean() + user_negatives * softplus(other_user).mean()
    return softplus(-taken).mean() + negative / (1 + user_negatives)


def distance(made: Batch, host: Batch) -> Tensor:
    """Of scores from the host's (LLM-InS, eq. 12): squared, of (u, i) and (u, j)."""
    found = [torch.square(ours - theirs).mean() for ours, theirs in zip(made.scores, host.scores, strict=True)]
    return found[0] + found[1]


def identification(made: Batch, host: Batch) -> Tensor:
    """How far items stand apart from the mean other one, against how far they do in the host (LLM-InS, eqs. 13, 14)."""
    ours, theirs = (_dot(one.item, one.item - one.other_item.mean(dim=0)) for one in (made, host))
    return binary_cross_entropy_with_logits(ours, theirs.sigmoid())


def coupled(user: Tensor, item: Tensor, yes: Tensor) -> Tensor:
    """BCE against the judge's answers, [P] of 0 and 1, of vectors [P, D] (ColdLLM, eq. 17)."""
    return binary_cross_entropy_with_logits(_dot(user, item), yes)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=1)
