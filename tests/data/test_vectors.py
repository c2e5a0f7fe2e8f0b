"""Vectors of chosen items out of a file of others."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.vectors import of
from recsys.errors import InputError


def test_vectors_of_the_items_asked_for_in_their_order(tmp_path: Path) -> None:
    wanted, path = pa.array([f"item {k}" for k in range(5)]), tmp_path / "vectors.parquet"
    ids = ["item 3", "other", "item 0"]
    pq.write_table(pa.table({"item_id": ids, "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}), path)
    none = [np.nan, np.nan]
    np.testing.assert_array_equal(of(path, wanted), [[5.0, 6.0], none, none, [1.0, 2.0], none])
    pq.write_table(pa.table({"item_id": ["other"], "vector": [[1.0]]}), path)
    with pytest.raises(InputError, match="none of 5 items has a vector there"):
        of(path, wanted)
