"""A frozen base with the feedback lists that its items had at any time: what a prompt network beside it reads.

Positives and sampled negatives, rows of training and of any other split, have their lists made by the same call, as of
their row's second and without their row's user: no list can tell one kind from another.

In memory are the base, the dataset's remembered feedback (`recsys.data.feedback`), and 4 D bytes a user.

Legend: U users, I items of the base's graph, B pairs, k places of a list, D width, F features.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding

from recsys.backbones.base import Base
from recsys.backbones.graph import Codes
from recsys.config import Config
from recsys.config_prompt import Prompt
from recsys.content.features import alone
from recsys.data import feedback_rows, pinnacle, similar
from recsys.data.feedback import Feedback
from recsys.data.feedback_rows import Entities
from recsys.data.pinnacle import Lists
from recsys.evaluate.positives import index
from recsys.model.prompt import PromptInputs


@dataclass(frozen=True, eq=False)
class Beside:
    """Users and items are codes of the base's graph, unless said otherwise."""

    base: Base
    feedback: Feedback
    options: Prompt
    user: Codes
    """[U] row of each user in users.parquet."""
    item: Codes
    """[I] row of each item in items.parquet, -1 without a record."""
    lender: NDArray[np.int32]
    """[rows of items.parquet] the item whose list stands in for an empty one (equation 5)."""
    cold: Tensor
    """[I] bool: fewer positive training events than `prompt.popular`."""
    rows: Tensor
    """[rows of users.parquet, D] e_u, zeros of users without a training positive."""
    features: Tensor | None
    """[I, F] float32, where `prompt.model.information` reads them."""

    @classmethod
    def read(cls, config: Config, device: torch.device) -> "Beside":
        """The config's trained base and its dataset's feedback.

        Raises:
            InputError: as `Base.read`, `recsys.data.feedback_rows.read` and `recsys.data.similar.lenders`; features
                that the dataset does not have.
        """
        dataset, base = Path(config.data.path), Base.read(config, device)
        entities = Entities.read(dataset)
        feedback = feedback_rows.read(dataset, 0, entities, config.prompt.seed)
        user, item = entities.user(base.graph.users), entities.item(base.graph.items)
        known = np.flatnonzero(item >= 0)
        positives, vectors = np.diff(feedback.positive.start), np.zeros((len(entities.items.ids), base.items.shape[1]))
        vectors[item[known]] = base.items[torch.from_numpy(known)].cpu()
        rows = base.items.new_zeros(len(entities.users.ids), base.items.shape[1])
        listed = np.flatnonzero(user >= 0)
        rows[torch.from_numpy(user[listed])] = base.rows()[torch.from_numpy(listed)]
        few = (np.append(positives, 0) < config.prompt.popular)[item]
        return cls(
            base=base,
            feedback=feedback,
            options=config.prompt,
            user=user.astype(np.int64),
            item=item.astype(np.int64),
            lender=similar.lenders(vectors.astype(np.float32), positives, config.prompt.popular),
            cold=torch.from_numpy(few).to(device),
            rows=rows,
            features=_features(config, base, device),
        )

    def lists(self, user: Codes, item: Codes, second: NDArray[np.int64]) -> Lists:
        """The lists of pairs [B] as of seconds [B]; their users are rows of users.parquet."""
        asked = (codes.astype(np.int32) for codes in (self.item[item], self.user[user]))
        code, own = asked
        return pinnacle.lists(self.feedback, self.options, code, second, own, lender=self.lender)

    def inputs(self, item: Codes, lists: Lists, user_BD: Tensor) -> PromptInputs:
        """What the network reads of pairs [B], given their lists and the users' vectors [B, D] then."""
        device = user_BD.device
        item_B = torch.from_numpy(item).to(device)
        pos_BK, neg_BK = (torch.from_numpy(codes).to(device) for codes in (lists.pinnacle, lists.negative))
        h_BD = embedding(item_B, self.base.items)
        return PromptInputs(
            item_B=item_B,
            h_BD=h_BD,
            user_BE=user_BD,
            logit_B=(user_BD * h_BD).sum(dim=1),
            pos_BKD=embedding(pos_BK.clamp(min=0), self.rows),
            pos_mask_BK=pos_BK >= 0,
            neg_BKD=embedding(neg_BK.clamp(min=0), self.rows),
            neg_mask_BK=neg_BK >= 0,
            features_BF=None if self.features is None else self.features[item_B],
        )


def _features(config: Config, base: Base, device: torch.device) -> Tensor | None:
    if config.prompt.model.information not in ("features", "both"):
        return None
    ids, made = alone(Path(config.data.path), config.features)
    place = index("item_id", ids).rows(base.graph.items)
    return torch.from_numpy(np.pad(made, ((1, 0), (0, 0)))[place]).to(device)
