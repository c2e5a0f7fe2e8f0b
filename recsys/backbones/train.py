"""Training of a backbone by BPR on the whole graph in one process, and the vectors that come of it.

    <run>/backbone/<kind>/checkpoint/    see `recsys.backbones.saved`
    <run>/backbone/<kind>/vectors/       of the best epoch, see `recsys.backbones.vectors`

In memory are weights, Adam's moments and the best weights (16 bytes a number), 16 bytes an edge, for ngcf and lightgcn
16 more, and what ranking holds. Adam steps over whole tables, so a step costs O(table). On a CPU with one number of
threads the same seed gives the same bits, resumed or not.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import embedding
from tqdm import tqdm

from recsys.backbones import saved, vectors
from recsys.backbones.graph import Graph
from recsys.backbones.sample import batches
from recsys.backbones.saved import Training
from recsys.backbones.valid import Validation
from recsys.config import Config
from recsys.config_backbone import Backbone
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.model.backbones import MF, bpr, make


def folder_of(config: Config) -> Path:
    """Where the config's backbone is kept."""
    return Path(config.run) / "backbone" / config.backbone.kind


def train(config: Config, ranks: Ranks) -> Path:
    """Train to the end, from the checkpoint if there is one, and write the best epoch's vectors; returns their folder.

    Raises:
        InputError: more ranks than one, a bad dataset or checkpoint, or a loss that is not finite.
    """
    if ranks.world_size > 1:
        raise InputError(f"a backbone's graph is one process's: expected one rank, found {ranks.world_size}")
    dataset, folder = Path(config.data.path), folder_of(config)
    graph = Graph.read(dataset)
    valid = Validation.read(dataset, graph, config.evaluate.seed)
    training = fit(graph, valid, config.backbone, folder / "checkpoint", ranks.device)
    training.model.load_state_dict(training.best)
    return vectors.write(folder / "vectors", graph, *vectors.of(training.model, len(graph.users)))


def trained(config: Config, graph: Graph, device: torch.device) -> MF:
    """The config's backbone after its best epoch.

    Raises:
        InputError: it was not trained, or its checkpoint is damaged or of another training.
    """
    folder = folder_of(config) / "checkpoint"
    training = _fresh(graph, config.backbone, device)
    saved.load(folder, training, config.backbone, graph.digest())
    if not training.history:
        raise InputError(f"{folder}: no checkpoint: train the backbone first, with tools.backbone")
    training.model.load_state_dict(training.best)
    return training.model


def fit(
    graph: Graph,
    valid: Validation,
    options: Backbone,
    checkpoint: Path,
    device: torch.device,
    weights: dict[str, Tensor] | None = None,
) -> Training:
    """A backbone trained until validation stops it; `checkpoint` is written after each epoch.

    weights: where training starts; None: at the seed's initial ones.

    Raises:
        InputError: the checkpoint is damaged or of another training, or the loss is not finite.
    """
    training = _fresh(graph, options, device)
    digest = graph.digest()
    if weights is not None:
        training.model.load_state_dict(weights)
        digest = hashlib.sha256(
            b"".join([digest.encode(), *(w.cpu().numpy().tobytes() for w in weights.values())])
        ).hexdigest()
    saved.load(checkpoint, training, options, digest)
    with tqdm(
        total=options.epochs, initial=len(training.history), desc=options.kind, unit="epoch", disable=None
    ) as bar:
        while len(training.history) < options.epochs and training.waited < options.patience:
            _epoch(graph, training, options, len(training.history), device)
            recall = valid.recall(*vectors.of(training.model, len(graph.users)))
            if recall > max(training.history, default=-1.0):
                training.best = {name: value.clone() for name, value in training.model.state_dict().items()}
            training.history.append(recall)
            saved.save(checkpoint, training, options, digest)
            bar.set_postfix(recall=f"{recall:.4f}", best=f"{max(training.history):.4f}")
            bar.update()
    return training


def _fresh(graph: Graph, options: Backbone, device: torch.device) -> Training:
    user, item = (torch.from_numpy(ends) for ends in graph.ends(graph.edges))
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        model = make(options.kind, user, item, len(graph.users), len(graph.items), options.width, options.layers)
    model = model.to(device)
    return Training(model, torch.optim.Adam(model.parameters(), options.lr), model.state_dict(), [])


def _epoch(graph: Graph, training: Training, options: Backbone, epoch: int, device: torch.device) -> None:
    for ends in batches(graph, options.batch, options.hardest_of, options.seed, epoch):
        user, positive, negatives = (torch.from_numpy(codes).to(device) for codes in ends)
        loss = _loss(training.model, user, positive + len(graph.users), negatives + len(graph.users), options.l2)
        if not loss.isfinite():
            raise InputError(f"epoch {epoch}: the loss is {loss.item()}: expected a finite one, lower backbone.lr")
        training.adam.zero_grad()
        loss.backward()
        training.adam.step()


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
