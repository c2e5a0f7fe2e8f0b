"""The first test rows of each new item as feedback, in the order in which they came."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.schema import split_files
from recsys.evaluate.arrivals import Arrivals
from recsys.evaluate.scores import read_groups
from recsys.files import replacing


def write(dataset: Path, arrivals: Arrivals, most: int, path: Path) -> None:
    """The first `most` rows of each item as feedback: the split's columns and `rank`. Streamed; whole or not at all.

    Raises:
        InputError: a file that cannot be read.
    """
    kept = arrivals.rank <= most
    row_id, place = arrivals.row_id[kept], arrivals.rank[kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        writer, first = None, 0
        for file in split_files(dataset, "test"):
            for _, table in read_groups(file, pq.read_schema(file).names):
                low, high = np.searchsorted(row_id, [first, first + table.num_rows])
                some = table.take(row_id[low:high] - first).append_column("rank", pa.array(place[low:high]))
                writer = writer or pq.ParquetWriter(partial, some.schema)
                writer.write_table(some)
                first += table.num_rows
        if writer is not None:
            writer.close()
