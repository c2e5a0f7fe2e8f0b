"""How long the vectors of cold items are to be among the warm ones.

Predicted vectors are shorter than what they predict, so a ranking of all items has cold ones too low. One factor for
all of them leaves the order among cold items as it is. It is chosen by what users took in split=valid, warm and cold
items together: among these the cold ones are those held out for validation.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.backbones.graph import Graph
from recsys.backbones.valid import Validation
from recsys.config import Config
from recsys.evaluate.vectors import Vectors


def placed(
    config: Config, graph: Graph, found: Vectors, cold: NDArray[np.floating]
) -> tuple[NDArray[np.float32], float]:
    """Vectors of all items [I, D], the warm ones as they are in `found` and the cold ones `cold` [I - warm, D], times
    the factor of `backbone.cold_scales` with the highest Recall@20; and that factor, the first where no cold item has a
    positive in split=valid.

    Raises:
        InputError: split=valid is not as it should be.
    """
    valid = Validation.read(Path(config.data.path), graph, config.evaluate.seed, "all")
    factors = config.backbone.cold_scales
    if not (valid.segment.item >= graph.warm).any():
        factors = factors[:1]
    tried = [np.concatenate([found.items[: graph.warm], cold * factor]).astype(np.float32) for factor in factors]
    best = int(np.argmax([valid.recall(found.users, items) for items in tried]))
    return tried[best], factors[best]
