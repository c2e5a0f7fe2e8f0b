"""A backbone's vectors as `tools.evaluate --vectors` reads them.

    DIR/user_id/part-00000.parquet    users with a training positive; all others rank at random
    DIR/item_id/part-00000.parquet    every candidate, warm and cold
    DIR/about.json                    how the cold items' vectors were made, where that is not the model

They are the model's output: rows for mf, propagated ones for ngcf and lightgcn, and for dssm and sasrec the user as of
their first positive row in split=test (see `recsys.backbones.sequences.before`). A cold item has no edge, so no
gradient ever reached its row: its vector is what the model makes of its initial row alone (see
`recsys.model.backbones`).
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from recsys.backbones.graph import Graph
from recsys.evaluate.vectors import ITEMS, USERS
from recsys.files import replacing
from recsys.model.backbones import MF

Matrix = NDArray[np.float32]


@torch.inference_mode()
def of(model: MF, users: int) -> tuple[Matrix, Matrix]:
    """Vectors of the first `users` nodes, and of the items, which are the others."""
    made = model().cpu().numpy()
    return made[:users], made[users:]


def write(folder: Path, graph: Graph, users: Matrix, items: Matrix, **about: object) -> Path:
    """Write vectors of the graph's users [U, D] and items [I, D], both or none; returns the folder.

    about: what about.json is to say, if anything.
    """
    with replacing(folder) as partial:
        for name, ids, values in ((USERS, graph.users, users), (ITEMS, graph.items, items)):
            (partial / name).mkdir(parents=True)
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])
            pq.write_table(pa.table({"id": ids, "vector": column}), partial / name / "part-00000.parquet")
        if about:
            (partial / "about.json").write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")
    return folder
