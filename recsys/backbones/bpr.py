"""How MF, NGCF and LightGCN learn: by BPR on the edges of the whole graph.

In memory are 16 bytes an edge, for ngcf and lightgcn 16 more, and what ranking holds.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import embedding

from recsys.backbones import saved, vectors
from recsys.backbones.graph import Graph
from recsys.backbones.sample import batches
from recsys.backbones.valid import Validation
from recsys.config import Config
from recsys.config_backbone import GRAPH_KINDS, Backbone
from recsys.errors import InputError
from recsys.model.backbones import MF, bpr, make


class EdgeLearner:
    """A model on a graph, stopped by Recall@20 of the validation's segment."""

    def __init__(
        self,
        graph: Graph,
        valid: Validation,
        options: Backbone,
        device: torch.device,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        """`weights`: where training starts; None: at the seed's initial ones."""
        self.graph, self.valid, self.options, self.device = graph, valid, options, device
        self.model = initial(graph, options, device)
        self.digest = graph.digest()
        if weights is not None:
            self.model.load_state_dict(weights)
            told = b"".join([self.digest.encode(), *(each.cpu().numpy().tobytes() for each in weights.values())])
            self.digest = hashlib.sha256(told).hexdigest()

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """Of batches of edges, each edge once."""
        options, users = self.options, len(self.graph.users)
        for ends in batches(self.graph, options.batch, options.hardest_of, options.seed, epoch):
            user, positive, negatives = (torch.from_numpy(codes).to(self.device) for codes in ends)
            yield _loss(self.model, user, positive + users, negatives + users, options.l2)

    def measure(self) -> float:
        """Recall@20."""
        return self.valid.recall(*self.vectors())

    def vectors(self) -> tuple[vectors.Matrix, vectors.Matrix]:
        """Of users [U, D] and items [I, D]."""
        return vectors.of(self.model, len(self.graph.users))


def initial(graph: Graph, options: Backbone, device: torch.device) -> MF:
    """The model with the seed's initial weights.

    Raises:
        InputError: it is of a kind that knows no graph.
    """
    if options.kind not in GRAPH_KINDS:
        raise InputError(f"backbone.kind={options.kind} is not made of a graph: expected {', '.join(GRAPH_KINDS)}")
    user, item = (torch.from_numpy(ends) for ends in graph.ends(graph.edges))
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        model = make(options.kind, user, item, len(graph.users), len(graph.items), options.width, options.layers)
    return model.to(device)


def trained(config: Config, graph: Graph, device: torch.device) -> MF:
    """The config's backbone after its best epoch.

    Raises:
        InputError: it is of another kind, was not trained, or its checkpoint is damaged or of another training.
    """
    model = initial(graph, config.backbone, device)
    saved.restore(config, model, graph.digest())
    return model


def _loss(model: MF, user: Tensor, positive: Tensor, negatives: Tensor, l2: float) -> Tensor:
    """BPR of a batch, plus l2 / 2 times the mean square length of the rows behind an edge.

    user, positive: nodes [B]. negatives: nodes [B, n], of which each row's hardest counts.

    `embedding` and not an index: its backward adds up rows several times faster.
    """
    made = model()
    nodes = user, positive, _hardest(made.detach(), user, negatives)
    rows = torch.stack([embedding(some, model.rows) for some in nodes])
    return bpr(*(embedding(some, made) for some in nodes)) + l2 / 2 * rows.square().sum() / len(user)


def _hardest(made: Tensor, user: Tensor, negatives: Tensor) -> Tensor:
    """[B] the node of each row of `negatives` [B, n] that the user [B] ranks highest."""
    if negatives.shape[1] == 1:
        return negatives[:, 0]
    scores = torch.bmm(made[negatives], made[user].unsqueeze(2)).squeeze(2)
    return negatives.gather(1, scores.argmax(dim=1, keepdim=True)).squeeze(1)
