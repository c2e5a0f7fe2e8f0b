"""Vectors whose dot products are popularity: the least that a ranking of warm items must beat.

    <run>/popularity/user_id/part-00000.parquet     every user: [1]
    <run>/popularity/item_id/part-00000.parquet     an item: its positive training rows; any other item: [0]

The layout is that of an export, null standing for whoever is not listed, so that `tools.evaluate --vectors` takes it.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.files import replacing
from recsys.rivals import means


def popularity(config: Config) -> Path:
    """Count the positives of split=train by item and write both vector sets; returns the folder.

    Raises:
        InputError: no training rows, or training labels of one class only.
    """
    counted = means.fit(Path(config.data.path))
    tally = counted.items
    folder = Path(config.run) / "popularity"
    with replacing(folder) as temporary:
        _write(temporary / "user_id", pa.nulls(1, counted.users.index.ids.type), np.ones(1))
        ids = pa.concat_arrays([pa.nulls(1, tally.index.ids.type), tally.index.ids])
        _write(temporary / "item_id", ids, tally.positives)
    return folder


def _write(folder: Path, ids: pa.Array, values: np.ndarray) -> None:
    folder.mkdir(parents=True)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32)), 1)
    pq.write_table(pa.table({"id": ids, "vector": vectors}), folder / "part-00000.parquet")
