"""A trained DSSM or SASRec as something else builds on it: frozen, with its vectors of items and of users at any time.

Legend: U users, I items, E training positives, D width, n users asked for.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recsys.backbones import saved
from recsys.backbones.graph import Codes, Graph
from recsys.backbones.sequences import Batch, Sequences, batches, newest, padded
from recsys.config import Config
from recsys.config_backbone import SEQUENCE_KINDS, Backbone
from recsys.data.jagged import Jagged
from recsys.errors import InputError
from recsys.model.towers import Averaged, Tower, make

SEQUENCES = 256
"""Sequences encoded at a time."""


@dataclass(frozen=True, eq=False)
class Base:
    """Users and items by code of `graph`. A logit is the dot product of a user's vector and an item's.

    All vectors are float32 on one device, and constants: no gradient flows into the base.

    Example:
        base = Base.read(config, torch.device("cpu"))
        logit = (base.before_events() * base.items[torch.from_numpy(base.sequences.items.values)]).sum(dim=1)
    """

    graph: Graph
    sequences: Sequences
    """The training positives of the graph's users."""
    items: Tensor
    """[I, D] h_i."""
    model: Tower
    """In evaluation mode; its parameters take no gradient."""
    length: int
    """Of a longer history the newest so many count."""

    @classmethod
    def read(cls, config: Config, device: torch.device) -> "Base":
        """The config's backbone after its best epoch.

        Raises:
            InputError: it is of another kind, was not trained, or a file is damaged or of another training.
        """
        options = config.backbone
        if options.kind not in SEQUENCE_KINDS:
            raise InputError(
                f"backbone.kind={options.kind} has one vector a user: expected one of {', '.join(SEQUENCE_KINDS)}"
            )
        graph = Graph.read(Path(config.data.path))
        sequences = Sequences.read(Path(config.data.path), graph)
        pair = initial(graph, options, device)
        saved.restore(config, pair, digest(graph, sequences))
        model = pair.served
        model.eval().requires_grad_(False)
        return cls(graph, sequences, model.items().detach(), model, options.history)

    def users(self, user: Codes, histories: Jagged) -> Tensor:
        """[n, D] vectors of users [n] who took `histories`, [n] lists of item codes, the oldest first."""
        return after(self.model, user, histories, self.length)

    def rows(self) -> Tensor:
        """[U, D] e_u: vectors of all users after their training positives."""
        return self.users(np.arange(len(self.graph.users)), self.sequences.items)

    def before_events(self) -> Tensor:
        """[E, D] the user's vector before each training positive, in the order of `sequences.items.values`; 4 D bytes
        each. It is what the base was trained on: it knows what was taken in a strictly smaller second, a user's
        oldest items left out where there are many (see `recsys.backbones.sequences.batches`).
        """
        found = self.items.new_empty(len(self.sequences.known), self.items.shape[1])
        for batch in batches(self.sequences, self.length, SEQUENCES, np.random.default_rng(0)):
            found[torch.from_numpy(batch.event).to(found.device)] = at_events(self.model, batch)
        return found


def initial(graph: Graph, options: Backbone, device: torch.device) -> Averaged:
    """The model with the seed's initial weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        return Averaged(make(len(graph.users), len(graph.items), options), options.average).to(device)


@torch.no_grad()  # and not inference_mode: what is trained on top saves them for its backward
def after(model: Tower, user: Codes, histories: Jagged, length: int) -> Tensor:
    """[n, D] vectors of users [n] after their `histories`, of which the newest `length` count."""
    device, found = model.rows.device, []
    for start in range(0, len(user), SEQUENCES):
        some = newest(histories.slice(start, start + SEQUENCES), length)
        who, taken, last = (
            torch.from_numpy(codes).to(device)
            for codes in (user[start : start + SEQUENCES], padded(some), some.lengths)
        )
        found.append(model.states(who, taken)[torch.arange(len(who), device=device), last])
    return torch.cat(found)


def at_events(model: Tower, batch: Batch) -> Tensor:
    """[T, D] the user's vector before each event of a batch."""
    user, history, row, known = (
        torch.from_numpy(codes).to(model.rows.device) for codes in (batch.user, batch.history, batch.row, batch.known)
    )
    return model.states(user, history)[row, known]


def weights_digest(model: nn.Module, of: str) -> str:
    """SHA-256 of a model's weights and of what they were learned `of`."""
    told = hashlib.sha256(of.encode())
    for weight in model.state_dict().values():
        told.update(weight.cpu().numpy().tobytes())
    return told.hexdigest()


def digest(graph: Graph, sequences: Sequences) -> str:
    """SHA-256 of ids and sequences."""
    told = hashlib.sha256(graph.digest().encode())
    for values in (sequences.items.values, sequences.known):
        told.update(values.tobytes())
    return told.hexdigest()
