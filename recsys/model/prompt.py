"""PROMO (Jiang et al., RecSys 2024): an item's first good users as a prompt beside a frozen base.

It knows vectors and logits alone: where they come from is the caller's.

Legend: B batch, K users in a feedback list, D id width, E width of the scored users' vectors, F item features, M hidden
width, P width of the last prompt.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchrec.modules.mlp import MLP

from recsys.config_prompt_model import PromptModel
from recsys.errors import InputError
from recsys.model.prompt_losses import pape, pfpe
from recsys.model.prompt_parameters import Layers, PromptParameters

ROWS = 256
"""Whose networks run together on a CPU: their parameters and outputs, some 16 kB a row each, stay near its cores. Rows
with lists of one length behind one another make the least padding."""


@dataclass(frozen=True)
class PromptInputs:
    """A batch as the frozen base and the feedback lists give it.

    Attributes:
        item_B: int64 rows of the scored items in the prompt's tables, each below their capacity.
        h_BD: float32 final vectors of the items; user_BE: of the users, as the base then sees them; logit_B: float32
            logits, all of the base.
        pos_BKD, neg_BKD: float32 rows of the base's user table, for the two lists; K may differ, and be 0. Negatives
            are read by L_pfpe alone.
        pos_mask_BK, neg_mask_BK: bool, which entries are users.
        features_BF: float32 of the items, where the config reads them.
    """

    item_B: Tensor
    h_BD: Tensor
    user_BE: Tensor
    logit_B: Tensor
    pos_BKD: Tensor
    pos_mask_BK: Tensor
    neg_BKD: Tensor
    neg_mask_BK: Tensor
    features_BF: Tensor | None = None

    def detached(self) -> "PromptInputs":
        """The same, of which no gradient is asked."""
        return replace(self, **{name: each.detach() for name, each in vars(self).items() if each is not None})


class Promo(nn.Module):
    """The base's logit plus the inner product of the user's vector with a final vector of the item (eqs. 6 to 10).

        e_final = MLP[h_i, mean S, mean prompt_i(S), e_i^{p_l}]

    S is the list of pinnacle users. Of the item's network eq. 10 has the last prompt alone; then nothing that the
    network makes of S would reach the score, so its mean stands beside. The MLP's last layer begins at zero, and with
    it every score at the base's, to the bit. A term whose list is empty is zero.

    Where the information is not pinnacle feedback, S holds the vectors that replace it (the item's own, or a linear
    map of its features, or both), and nothing else changes.

    Only its own parameters learn: the inputs are detached.
    """

    def __init__(
        self,
        config: PromptModel,
        dim: int,
        capacity: int,
        features: int = 0,
        device: torch.device | None = None,
        users: int | None = None,
    ) -> None:
        """`dim`: D. `capacity`: rows of the per-item tables. `features`: F. `device`: of the tables, may be meta.
        `users`: E; None is D.

        Raises:
            InputError: the config reads features and there are none, or wants rows wider than tables can be.
        """
        super().__init__()
        self.information = config.information
        described = config.information in ("features", "both")
        if described and not features:
            raise InputError(f"information={config.information}: the items have no features; take ids or pinnacle")
        self.describe = nn.Linear(features, dim) if described else None
        self.of_item = None if config.network == "none" else PromptParameters(config, dim, capacity, device)
        width = 2 * dim if self.of_item is None else 3 * dim + config.last
        self.head = nn.Sequential(MLP(width, config.head), nn.Linear(config.head[-1], users or dim))
        for parameter in self.head[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, given: PromptInputs) -> tuple[Tensor, Tensor]:
        """[B] float32 logits, and [B] what `recsys.model.prompt_losses.pfpe` gives; zeros without a network."""
        given = given.detached()
        final_BE, pfpe_B = self._final(given)
        return given.logit_B + (given.user_BE * final_BE).sum(dim=1), pfpe_B

    def final(self, given: PromptInputs) -> Tensor:
        """[B, E] float32 e_final (eq. 10), which follows from items and their pinnacle lists alone."""
        return self._final(given.detached())[0]

    def _final(self, given: PromptInputs) -> tuple[Tensor, Tensor]:
        read_BKD, mask_BK = self._read(given)
        parts, pfpe_B = [given.h_BD, _mean(read_BKD, mask_BK)], torch.zeros_like(given.logit_B)
        if self.of_item is not None:
            given_of = self.of_item.look_up(given.item_B), read_BKD, mask_BK, given.neg_BKD, given.neg_mask_BK
            rows = max(len(mask_BK), 1) if mask_BK.is_cuda else ROWS
            found = [self._networks(*some) for some in zip(*(each.split(rows) for each in given_of), strict=True)]
            mean_BD, last_BP, pfpe_B = (torch.cat(each) for each in zip(*found, strict=True))
            parts += [mean_BD, last_BP]
        return self.head(torch.cat(parts, dim=1)), pfpe_B

    def _networks(self, own: Tensor, *lists: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of some rows the mean of what their networks make of the list that is read [n, D], their last prompts [n, P]
        and L_pfpe [n]."""
        assert self.of_item is not None
        read_BKD, mask_BK, neg_BKD, neg_mask_BK = (*_trimmed(*lists[:2]), *_trimmed(*lists[2:]))
        layers, last_BP = self.of_item.cut(own)
        both = encode(torch.cat([read_BKD, neg_BKD], dim=1), layers)
        # `split`, not slices: the gradient of each slice would be one of all, filled up with zeros.
        pos_BKD, neg_BKD = both.split([read_BKD.shape[1], neg_BKD.shape[1]], dim=1)
        return _mean(pos_BKD, mask_BK), last_BP, pfpe(pos_BKD, neg_BKD, mask_BK, neg_mask_BK)

    def _read(self, given: PromptInputs) -> tuple[Tensor, Tensor]:
        """What the network reads, [B, K, D], and which of it is real, [B, K]."""
        if self.information == "pinnacle":
            return given.pos_BKD, given.pos_mask_BK
        found = [] if self.information == "features" else [given.h_BD]
        if self.describe is not None:
            assert given.features_BF is not None
            found.append(self.describe(given.features_BF))
        read_BKD = torch.stack(found, dim=1)
        return read_BKD, read_BKD.new_ones(read_BKD.shape[:2], dtype=torch.bool)


def encode(read_BKD: Tensor, layers: Layers) -> Tensor:
    """Each row's list through its own network (eq. 7): h <- tanh(h W + b), [B, K, D] -> [B, K, D] float32.

    tanh, since L_pfpe would be won by ever larger outputs of an activation without a bound.
    """
    for weight, bias in layers:
        read_BKD = torch.baddbmm(bias.unsqueeze(1), read_BKD, weight).tanh_()
    return read_BKD


def _trimmed(values_BKD: Tensor, mask_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Both without the last places, where no row has anybody there."""
    if mask_BK.is_cuda:  # where to ask costs more than it saves
        return values_BKD, mask_BK
    taken = mask_BK.any(dim=0).nonzero()
    places = int(taken[-1]) + 1 if len(taken) else 0
    return values_BKD[:, :places], mask_BK[:, :places]


def _mean(values_BKD: Tensor, mask_BK: Tensor) -> Tensor:
    """[B, D]; zeros where nothing is real. What is not real is finite."""
    share_BK = mask_BK / mask_BK.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.bmm(share_BK.unsqueeze(1), values_BKD).squeeze(1)


class PromoLoss(nn.Module):
    """The prompt under L_rec + lambda_1 L_pfpe + lambda_2 L_pape (eq. 13); L_rec is weighted binary cross-entropy."""

    def __init__(self, prompt: Promo, config: PromptModel) -> None:
        super().__init__()
        self.prompt, self.pfpe, self.pape = prompt, config.pfpe, config.pape

    def forward(
        self, given: PromptInputs, label_B: Tensor, weight_B: Tensor, cold_B: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss (scalar) and, detached, (L_rec, L_pfpe, L_pape, logits [B]), whose first three are scalars.

        As in `recsys.model.ranker.RankerLoss` sums over rows are divided by B. L_pape compares the rows of a rank.

        Args:
            given: [B] rows. label_B: float32, 0 or 1. weight_B: float32, 0 for padding. cold_B: bool, whose item is
                cold.
        """
        logit_B, pfpe_B = self.prompt(given)
        rec = binary_cross_entropy_with_logits(logit_B, label_B, weight_B, reduction="sum") / len(label_B)
        apart, fair = (weight_B * pfpe_B).sum() / len(label_B), pape(logit_B, label_B, weight_B, cold_B)
        loss = rec + self.pfpe * apart + self.pape * fair
        return loss, (rec.detach(), apart.detach(), fair.detach(), logit_B.detach())


@dataclass(frozen=True)
class PromptSize:
    """What is tuned.

    Attributes:
        tuned: numbers that training may change. share: of them to those of the base.
        item_bytes: bytes of an item's rows in all tables, without their optimizer's.
    """

    tuned: int
    share: float
    item_bytes: int


def size(prompt: Promo, base: nn.Module) -> PromptSize:
    """Of a prompt and the base it stands beside, neither of them sharded; meta devices will do."""
    tuned = sum(parameter.numel() for parameter in prompt.parameters())
    tables = prompt.of_item.tables if prompt.of_item is not None else None
    item_bytes = sum(row.shape[1] * row.element_size() for row in tables.parameters()) if tables is not None else 0
    return PromptSize(tuned, tuned / sum(parameter.numel() for parameter in base.parameters()), item_bytes)
