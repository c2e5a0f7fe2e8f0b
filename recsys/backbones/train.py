"""Training of the config's backbone, and the vectors that come of it.

<run>/backbone/<kind>/checkpoint/    see `recsys.backbones.saved`
<run>/backbone/<kind>/vectors/       of the best epoch, see `recsys.backbones.vectors`
"""

from pathlib import Path

from recsys.backbones import vectors
from recsys.backbones.bce import SequenceLearner
from recsys.backbones.bpr import EdgeLearner
from recsys.backbones.graph import Graph
from recsys.backbones.loop import fit
from recsys.backbones.saved import folder_of
from recsys.backbones.valid import Validation
from recsys.config import Config
from recsys.config_backbone import SEQUENCE_KINDS
from recsys.distributed import Ranks
from recsys.errors import InputError


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
    learner: EdgeLearner | SequenceLearner
    if config.backbone.kind in SEQUENCE_KINDS:
        learner = SequenceLearner(config, graph, valid, ranks.device)
    else:
        learner = EdgeLearner(graph, valid, config.backbone, ranks.device)
    fit(learner, config.backbone, folder / "checkpoint")
    return vectors.write(folder / "vectors", graph, *learner.vectors())
