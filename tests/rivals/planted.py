"""The tiny dataset with labels that follow its users and items, so that a working rival must find something."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.schema import split_files
from tests import tiny

ROWS = {"train": 1500, "valid": 300, "test": 400}


def write(path: Path, rows: dict[str, int] | None = None) -> Path:
    """Write it: odd users and odd items are liked more, history labels follow the item alone."""
    tiny.write(path, rows or ROWS)
    random = np.random.default_rng(5)
    for split in ("train", "valid", "test"):
        for part in split_files(path, split):
            table = pq.read_table(part)
            odds = 3.0 * _odd(table["user_id"]) + 3.0 * _odd(table["item_id"]) - 3.0
            label = random.random(len(odds)) < 1 / (1 + np.exp(-odds))
            table = table.set_column(table.schema.get_field_index("label"), "label", pa.array(label.astype(np.int8)))
            groups = pq.ParquetFile(part).metadata.row_group(0).num_rows
            pq.write_table(table, part, row_group_size=groups * 10)
    return path


def _odd(ids: pa.ChunkedArray) -> np.ndarray:
    return np.array([int(text[-1]) % 2 for text in ids.to_pylist()], dtype=np.float64)
