"""Files of item vectors: Parquet of item_id and vector, as `recsys.data.vectors` reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


class Files:
    """Several in one new folder, of the same items, written as the vectors come; a context."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}

    def write(self, ids: pa.Array, vectors: Mapping[str, NDArray[Any]]) -> None:
        """Append n items: `<name>.parquet` gets ids [n] and what is there by its name, [n, D], as float32."""
        for name, each in vectors.items():
            flat = pa.array(each.astype(np.float32, copy=False).reshape(-1))
            offsets = pa.array(np.arange(len(each) + 1, dtype=np.int32) * each.shape[1])
            self.append(name, pa.table({"item_id": ids, "vector": pa.ListArray.from_arrays(offsets, flat)}))

    def append(self, name: str, rows: pa.Table) -> None:
        """Append rows to `<name>.parquet`, all of the same columns."""
        if name not in self._writers:
            path = self._folder / f"{name}.parquet"
            self._writers[name] = pq.ParquetWriter(path, rows.schema, use_dictionary=False)
        self._writers[name].write_table(rows)

    def __enter__(self) -> "Files":
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._writers.values():
            writer.close()
