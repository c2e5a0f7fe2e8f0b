"""The simplest rival on cold items: closed-form ridge from content vectors to a backbone's item vectors.

    <run>/backbone/<kind>/ridge/    the backbone's vectors, those of cold items replaced

Fitted on warm items, weighted by their training positives; see `recsys.floor.ridge`. A cold item without content has
the warm items' weighted mean. The length of what is predicted is chosen (see `recsys.backbones.scale`).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.backbones import scale, vectors
from recsys.backbones.graph import Graph
from recsys.backbones.saved import folder_of
from recsys.config import Config
from recsys.data.ids import IdMap
from recsys.data.vectors import read
from recsys.evaluate.vectors import read_vectors
from recsys.floor.content import warm_moments
from recsys.floor.ridge import Ridge, fit

Matrix = NDArray[np.float64]


def ridge(config: Config, content: Path) -> Path:
    """Replace the vectors of cold items by what ridge makes of their content; returns the new folder.

    content: Parquet (item_id, vector), such as `tools.content` writes.

    Raises:
        InputError: the backbone has no vectors yet, or a file is not as it should be.
    """
    graph, folder = Graph.read(Path(config.data.path)), folder_of(config)
    found = read_vectors(folder / "vectors", graph.users, graph.items)
    cold, _ = predict(graph, found.items, content, config.floor.ridge)
    made, chosen = scale.placed(config, graph, found, cold)
    return vectors.write(folder / "ridge", graph, found.users, made, scale=chosen)


def predict(graph: Graph, known: NDArray[np.float32], content: Path, grid: list[float]) -> tuple[Matrix, Ridge]:
    """[I - warm, D] what ridge from content makes of the cold items, and the ridge.

    known: [I, D] vectors, of which the warm items' are learned from.

    Raises:
        InputError: the file is not as it should be, or too few warm items have a vector there.
    """
    items = IdMap("item_id", graph.items, graph.degrees()[1], len(graph.items) + 1)
    line = fit(*warm_moments(content, items, lambda rows: known[rows - 1].astype(np.float64)), grid)
    cold = np.tile(line.mean_y, (len(graph.items) - graph.warm, 1))
    for ids, x in read(content, graph.items.type):
        codes = items.rows(ids) - 1 - graph.warm
        cold[codes[codes >= 0]] = line(x[codes >= 0])
    return cold, line
