"""Content of items as rows of frozen tables: `item_coarse`, and beside it `item_layers` (see `recsys.config_slot`).

Both have id maps of their own, so that an item without an ID row has content from the start. An item without a row in
`item_coarse` has none: row 0 of both tables, which is zero.

Legend: C content tables (0, 1 or 2), n items.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.config import Config
from recsys.data.ids import UNKNOWN, IdMap
from recsys.data.vectors import read
from recsys.errors import InputError

COARSE, LAYERS, FINE = "item_coarse", "item_layers", "item_fine"
"""The tables; the last is made from the other two when a ranker is exported, and is in bundles alone."""


def files(config: Config) -> dict[str, Path]:
    """The file behind each content table that the config's ranker reads, `item_coarse` first."""
    slot = config.model.proxy
    named = {COARSE: slot.coarse, LAYERS: slot.layers} if slot.place != "none" else {}
    return {name: Path(path) for name, path in named.items() if path is not None}


def in_history(config: Config) -> bool:
    """Whether history items show their content too."""
    return config.model.proxy.place == "slot" and config.model.history


def fit(config: Config, kind: pa.DataType) -> tuple[dict[str, IdMap], dict[str, int]]:
    """Id maps of the content tables, and the tables' widths: the vectors', rounded up to a multiple of 4 (fbgemm's).

    kind: the type of the dataset's ids.

    Raises:
        InputError: a file is not one of item vectors, or it holds none.
    """
    maps, widths = {}, {}
    for name, path in files(config).items():
        parts, width = [], 0
        for ids, vectors in read(path, kind):
            parts.append(ids.cast(kind))
            width = vectors.shape[1]
        if not parts:
            raise InputError(f"{path}: expected at least one item with a vector, found none")
        together = pa.concat_arrays(parts)
        maps[name] = IdMap.fit(name, together, np.zeros(len(together), np.int64), 0, config.model.spare)
        widths[name] = -(-width // 4) * 4
    return maps, widths


def rows(maps: list[IdMap], ids: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """[n, C] rows of items in the content tables."""
    found = np.zeros((len(ids), len(maps)), np.int64)
    for k, each in enumerate(maps):
        found[:, k] = each.rows(ids)
    if maps:
        found[found[:, 0] == UNKNOWN] = UNKNOWN
    return found
