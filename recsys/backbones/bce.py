"""How DSSM and SASRec learn: by cross-entropy on the logits of what a user took next, against sampled negatives.

    minimise  mean over events (u, i)    softplus(-h_u . h_i) + 1 / n  sum over negatives j  softplus(h_u . h_j)

h_u is the user's vector after what they took in a strictly smaller second. In memory are 36 bytes a training positive,
and for a step 4 D bytes for each of its events' negatives and, with SASRec, its heads' L^2 weights of each sequence.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, softplus

from recsys.backbones.base import after, at_events, digest, initial
from recsys.backbones.graph import Graph
from recsys.backbones.sample import negatives
from recsys.backbones.sequences import Batch, Sequences, batches, before
from recsys.backbones.valid import Validation
from recsys.backbones.vectors import Matrix
from recsys.config import Config
from recsys.model.towers import Tower


class SequenceLearner:
    """A two-tower model on the users' sequences, stopped by HitRate@10 among sampled negatives in split=valid."""

    def __init__(self, config: Config, graph: Graph, valid: Validation, device: torch.device) -> None:
        """Raises InputError for a file that is not as it should be, or a user of split=valid with too few items to
        sample negatives from."""
        dataset, self.options, self.evaluate = Path(config.data.path), config.backbone, config.evaluate
        self.graph, self.valid = graph, valid
        valid.require_negatives(config.evaluate)
        self.sequences = Sequences.read(dataset, self.graph)
        self.known = {split: before(dataset, split, self.graph, self.sequences) for split in ("valid", "test")}
        self.model = initial(self.graph, self.options, device)
        self.digest = digest(self.graph, self.sequences)

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """Of batches of sequences, each event once; within a second the order is the epoch's own."""
        options, device = self.options, self.model.tower.rows.device
        random = np.random.default_rng([options.seed, epoch])
        self.model.tower.train()
        for batch in batches(self.sequences.redrawn(random), options.history, options.batch, random):
            others = negatives(self.graph, np.repeat(batch.user[batch.row], options.negatives), random)
            # Dropout draws from torch's own generator: here as the batch says, and nobody else's draws change.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(int(random.integers(2**63)))
                loss = bce(self.model.tower, batch, torch.from_numpy(others.reshape(-1, options.negatives)).to(device))
            yield loss
            self.model.follow()

    def measure(self) -> float:
        """HitRate@10."""
        return self.valid.hit_rate(*self.vectors("valid"), self.evaluate)

    @torch.inference_mode()
    def vectors(self, split: str = "test") -> tuple[Matrix, Matrix]:
        """Of users [U, D] as `before` their first positive row in the split, and of items [I, D]."""
        served = self.model.served.eval()
        everyone = np.arange(len(self.graph.users))
        users = after(served, everyone, self.known[split], self.options.history)
        return users.cpu().numpy(), served.items().cpu().numpy()


def bce(model: Tower, batch: Batch, others: Tensor) -> Tensor:
    """The loss of a batch of T events against their negatives [T, n]."""
    user, items = at_events(model, batch), model.items()
    taken = (user * embedding(torch.from_numpy(batch.item).to(user.device), items)).sum(dim=1)
    return (softplus(-taken) + softplus(torch.einsum("td,tnd->tn", user, embedding(others, items))).mean(dim=1)).mean()
