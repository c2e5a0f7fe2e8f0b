"""The host ranker, frozen, and what a prompt network beside it reads of a batch.

    logit' = logit + z . e_final(i)

z, the scored user's vector, is the ranker's last hidden layer: what it knows of this user, context and item, in the
space whose product with one vector of weights is the logit; e_final corrects these weights for the item. An ID vector
in its place could not see the history, which is most of what the ranker knows of taste.
S, the listed users, are their rows of the user table, and h_i the item's row of the item table: the vectors that the
ranker has of a user and an item by themselves. A new item has none, and takes the trained unknown row, or one that has
been fine-tuned for it.

Lists are made by one call for rows of any split, as of their second and without their user; rows that are scored in
split=test see all that was kept of a new item, which the split has cut off before them.

In memory on every rank are the remembered feedback (`recsys.data.feedback`) and 4 D bytes a user.

Legend: B batch, n new items, I items of items.parquet, U users of users.parquet, N rows of the network's tables,
K places of a list, D ID width, E = H width of the last hidden layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys.coldrows.frozen import Frozen
from recsys.config_prompt import Prompt
from recsys.data import feedback_rows, pinnacle, similar
from recsys.data.batch import Batch
from recsys.data.encode import ITEM, USER
from recsys.data.feedback import Feedback
from recsys.data.feedback_rows import Entities
from recsys.data.ids import UNKNOWN, IdMap
from recsys.data.log import Codes, Mask
from recsys.data.pinnacle import Lists
from recsys.data.places import NOBODY
from recsys.errors import InputError
from recsys.model.prompt import PromptInputs
from recsys.prompt.host.asked import Asked


@dataclass(frozen=True, eq=False)
class Host:
    """Lists name users and items by their rows of users.parquet and items.parquet; items without a record, where rows
    from elsewhere name them, come behind."""

    frozen: Frozen
    entities: Entities
    feedback: Feedback
    options: Prompt
    vectors: Tensor
    """[n, D] float32, where the frozen ranker would use rows of its item table for its new items."""
    row: Tensor
    """[rows of the frozen ranker's item map] int64, each item's row of the network's tables."""
    new: Mask
    """[I] the frozen ranker's new items."""
    lender: Codes
    """[I] the item whose list stands in for an empty one (equation 5); NOBODY for an item without a trained vector."""
    cold: Tensor
    """[N] bool: fewer positive training events than `prompt.popular`; so is an item that poses as new."""
    users: Tensor
    """[U, D] float32."""

    @classmethod
    def read(
        cls, frozen: Frozen, own: IdMap, exposure: int, more: Sequence[Path] = (), vectors: Tensor | None = None
    ) -> "Host":
        """The feedback of training, `exposure` kept rows of each new item, and the rows of the files `more`, whose
        items the frozen ranker knows. Collective.

        own: rows of the network's tables. vectors: [n, D] float32 of the new items; None is the trained unknown row.

        Raises:
            InputError: the ranker reads no user_id; lists whose length would tell drawn rows; as
                `recsys.data.feedback_rows.read` and `recsys.data.similar.lenders`.
        """
        config, maps = frozen.encoder.config, frozen.encoder.maps
        dataset, options, device = Path(config.data.path), config.prompt, frozen.ranks.device
        if USER not in maps:
            raise InputError("features: a prompt network beside the ranker reads users' vectors: expected user_id")
        if feedback_rows.drawn_negatives(dataset) and not options.even_lengths:
            raise InputError(
                "prompt.even_lengths=false: leak: rows of label 0 are drawn, of users who gave the item no feedback, "
                "and a short list's length would tell: expected true"
            )
        entities = Entities.read(dataset)
        if more:
            known = np.arange(maps[ITEM].capacity)
            entities = entities.with_items(maps[ITEM].owners(known[frozen.place(known) >= 0]))
        feedback = feedback_rows.read(dataset, exposure, entities, options.seed, more)
        item_row = maps[ITEM].rows(entities.items.ids)
        new = frozen.place(item_row) >= 0
        trained = (item_row != UNKNOWN) & ~new
        known_ID = frozen.vectors(np.where(trained, item_row, UNKNOWN)).float().cpu().numpy()
        positives = np.diff(feedback.positive.start) * trained
        lender = similar.lenders(known_ID * trained[:, None], positives, options.popular)
        cold = torch.ones(own.capacity, dtype=torch.bool, device=device)
        cold[torch.from_numpy(own.rows(entities.items.ids)).to(device)] = torch.from_numpy(
            positives < options.popular
        ).to(device)
        cold[UNKNOWN] = True
        row = own.rows(maps[ITEM].owners(np.arange(maps[ITEM].capacity)))
        return cls(
            frozen=frozen,
            entities=entities,
            feedback=feedback,
            options=options,
            vectors=frozen.unknown().expand(frozen.count, -1) if vectors is None else vectors,
            row=torch.from_numpy(row).to(device),
            new=new,
            lender=np.where(trained, lender, NOBODY).astype(np.int32),
            cold=cold,
            users=frozen.features(USER, maps[USER].rows(entities.users.ids)),
        )

    def lists(self, asked: Asked, whole: bool = False, posed: Mask | None = None) -> Lists:
        """Of rows [B].

        Args:
            whole: those of new items see all of their remembered events, whatever their second.
            posed: [B] whose item poses as a new one, which has no trained vector to borrow a list by.
        """
        seen = np.append(self.new, False)[asked.item] if whole else None
        borrows = None if posed is None else ~posed
        rows = asked.item, asked.second, asked.user
        return pinnacle.lists(self.feedback, self.options, *rows, seen, self.lender, borrows)

    def inputs(self, batch: Batch, lists: Lists, posed_B: Tensor | None = None) -> PromptInputs:
        """What the network reads of a batch of the frozen ranker's encoder, on its device; no gradient leaves it.

        posed_B: bool, whose item poses as a new one: without its row of the item table and without its own of the
            network's.
        """
        frozen = self.frozen
        batch = batch if posed_B is None else _posed(batch, posed_B)
        with torch.no_grad():
            logit_B, hidden_BE, item_BD = frozen.represent(batch, self.vectors)
        targets = batch.items.values()[: len(logit_B)]
        return self.given(self.row[targets], item_BD, hidden_BE, logit_B, lists)

    def given(self, row_B: Tensor, item_BD: Tensor, user_BE: Tensor, logit_B: Tensor, lists: Lists) -> PromptInputs:
        """The same from rows of the network's tables [B] int64, and from vectors and logits."""
        pos_BK, neg_BK = (torch.from_numpy(each).to(row_B.device) for each in (lists.pinnacle, lists.negative))
        return PromptInputs(
            item_B=row_B,
            h_BD=item_BD,
            user_BE=user_BE,
            logit_B=logit_B,
            pos_BKD=embedding(pos_BK.clamp(min=0), self.users),
            pos_mask_BK=pos_BK >= 0,
            neg_BKD=embedding(neg_BK.clamp(min=0), self.users),
            neg_mask_BK=neg_BK >= 0,
        )


def _posed(batch: Batch, posed_B: Tensor) -> Batch:
    # Targets, one a row, come before the histories.
    values = batch.items.values().clone()
    values[: len(posed_B)].masked_fill_(posed_B, UNKNOWN)
    return replace(batch, items=KeyedJaggedTensor(batch.items.keys(), values, lengths=batch.items.lengths()))
