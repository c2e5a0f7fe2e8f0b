"""The vectors of the content files into the frozen tables of a sharded model, once, when a run begins."""

from functools import partial

import numpy as np
import torch

from recsys.data import content
from recsys.data.encode import Encoder
from recsys.data.ids import UNKNOWN
from recsys.data.vectors import read
from recsys.distributed import Ranks, together
from recsys.errors import InputError
from recsys.tables.rows import Rows
from recsys.tables.sharding import Sharded


def fill(sharded: Sharded, encoder: Encoder, ranks: Ranks) -> None:
    """Write every vector of the encoder's content files into its item's row. Collective.

    Each rank reads the files in a stream and writes its share of each piece.

    Raises:
        InputError: a file is not what the encoder was fitted on, or holds a number too large for half precision.
    """
    if not encoder.widths:
        return
    tables = Rows(sharded, ranks)
    for name, path in content.files(encoder.config).items():
        ids_of, width = encoder.maps[name], encoder.widths[name]
        pieces = read(path, ids_of.ids.type)
        while (piece := together(partial(next, pieces, None))) is not None:
            ids, vectors = piece
            rows = ids_of.rows(ids)
            if (rows == UNKNOWN).any() or not 0 <= width - vectors.shape[1] < 4:
                raise InputError(f"{path}: has changed since the run's encoder was fitted: give another run=...")
            mine = slice(ranks.rank, None, ranks.world_size)
            padded = np.pad(vectors[mine], ((0, 0), (0, width - vectors.shape[1])))
            tables.write(name, torch.from_numpy(rows[mine]), torch.from_numpy(padded))
