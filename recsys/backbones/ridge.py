"""The simplest rival on cold items: closed-form ridge from content vectors to a backbone's item vectors.

    <run>/backbone/<kind>/ridge/    the backbone's vectors, those of cold items replaced

Fitted on warm items, weighted by their training positives; see `recsys.floor.ridge`. A cold item without content has
the warm items' weighted mean.
"""

from pathlib import Path

import numpy as np

from recsys.backbones import vectors
from recsys.backbones.graph import Graph
from recsys.backbones.train import folder_of
from recsys.config import Config
from recsys.data.ids import IdMap
from recsys.data.vectors import read
from recsys.evaluate.vectors import read_vectors
from recsys.floor.content import warm_moments
from recsys.floor.ridge import fit


def ridge(config: Config, content: Path) -> Path:
    """Replace the vectors of cold items by what ridge makes of their content; returns the new folder.

    content: Parquet (item_id, vector), such as `tools.content` writes.

    Raises:
        InputError: the backbone has no vectors yet, or a file is not as it should be.
    """
    graph, folder = Graph.read(Path(config.data.path)), folder_of(config)
    found = read_vectors(folder / "vectors", graph.users, graph.items)
    items = IdMap("item_id", graph.items, graph.degrees()[1], len(graph.items) + 1)
    line = fit(*warm_moments(content, items, lambda rows: found.items[rows - 1].astype(np.float64)), config.floor.ridge)
    made = found.items.copy()
    made[graph.warm :] = line.mean_y
    for ids, x in read(content, graph.items.type):
        codes = items.rows(ids) - 1
        cold = codes >= graph.warm
        made[codes[cold]] = line(x[cold])
    return vectors.write(folder / "ridge", graph, found.users, made)
