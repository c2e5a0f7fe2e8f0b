"""Two-tower backbones that know a user by what they took, in order: DSSM (CIKM 2013) and SASRec (arXiv:1808.09781).

A user and an item score the dot product of their vectors. A user has a vector after each of their items: the k-th state
follows from the first k items alone, so one pass over a sequence trains all of its positions.

Legend: U users, I items, B sequences, L their longest length, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recsys.config_backbone import Backbone

INIT_STD = {"dssm": 0.1, "sasrec": 0.02}
"""Standard deviation of the initial rows. SASRec multiplies its rows by the root of the width where it reads them."""


class Tower(nn.Module):
    """What the two have in common: a table of items."""

    def __init__(self, items: int, options: Backbone) -> None:
        super().__init__()
        self.rows = _rows(items, options)

    def items(self) -> Tensor:
        """[I, D]: vectors of all items."""
        return self.rows

    def states(self, user: Tensor, history: Tensor) -> Tensor:
        """[B, L + 1, D]: vectors of users [B] after none, one, ... and all L of the items that they took.

        history: [B, L] item codes, the oldest first. A shorter one is filled up at its end with any code: the states
        until there do not change.
        """
        raise NotImplementedError


class DSSM(Tower):
    """Two towers of fully connected layers: over a user's row beside the mean of the rows of what they took, and over
    an item's row."""

    def __init__(self, users: int, items: int, options: Backbone) -> None:
        super().__init__(items, options)
        width = options.width
        self.user_rows = _rows(users, options)
        self.of_user = _layers(2 * width, width, options)
        self.of_item = _layers(width, width, options)

    def items(self) -> Tensor:
        """[I, D]: what the item tower makes of the rows."""
        found: Tensor = self.of_item(self.rows)
        return found

    def states(self, user: Tensor, history: Tensor) -> Tensor:
        """[B, L + 1, D]."""
        total = pad(embedding(history, self.rows).cumsum(dim=1), (0, 0, 1, 0))
        count = torch.arange(total.shape[1], device=total.device).clamp(min=1).unsqueeze(1)
        own = embedding(user, self.user_rows).unsqueeze(1).expand_as(total)
        found: Tensor = self.of_user(torch.cat([own, total / count], dim=2))
        return found


class SASRec(Tower):
    """Causal self-attention over a start token and the items taken, with a row for each position."""

    def __init__(self, items: int, options: Backbone) -> None:
        super().__init__(items, options)
        width = options.width
        self.start = _rows(1, options)
        self.positions = _rows(options.history + 1, options)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, options.heads, width, options.dropout, batch_first=True, norm_first=True)
            for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)

    def states(self, user: Tensor, history: Tensor) -> Tensor:
        """[B, L + 1, D], for an L of at most `backbone.history`."""
        taken = embedding(history, self.rows) * self.rows.shape[1] ** 0.5
        state = torch.cat([self.start.expand(len(history), 1, -1), taken], dim=1)
        state = self.dropout(state + self.positions[: state.shape[1]])
        mask = nn.Transformer.generate_square_subsequent_mask(state.shape[1], device=state.device)
        for block in self.blocks:
            state = block(state, src_mask=mask, is_causal=True)
        found: Tensor = self.norm(state)
        return found


class Averaged(nn.Module):
    """A tower under training and the moving average of its weights, which is what serves."""

    def __init__(self, tower: Tower, decay: float) -> None:
        super().__init__()
        self.tower = tower
        self.average = AveragedModel(tower, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.average.requires_grad_(False)

    @property
    def served(self) -> Tower:
        """With the averaged weights."""
        assert isinstance(self.average.module, Tower)
        return self.average.module

    def follow(self) -> None:
        """Move the average after a step; the first one sets it."""
        self.average.update_parameters(self.tower)


def make(users: int, items: int, options: Backbone) -> Tower:
    """A model with initial weights, drawn by torch's generator."""
    return DSSM(users, items, options) if options.kind == "dssm" else SASRec(items, options)


def _rows(count: int, options: Backbone) -> nn.Parameter:
    return nn.Parameter(torch.empty(count, options.width).normal_(std=INIT_STD[options.kind]))


def _layers(width: int, out: int, options: Backbone) -> nn.Sequential:
    """`layers` hidden layers and a linear one."""
    found: list[nn.Module] = [nn.Dropout(options.dropout)]
    for _ in range(options.layers):
        found += [nn.Linear(width, out), nn.ReLU(), nn.Dropout(options.dropout)]
        width = out
    return nn.Sequential(*found, nn.Linear(width, out))
