"""A Parquet column of vectors, as anybody wrote it, to a matrix."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import DTypeLike, NDArray

from recsys.data.schema import is_list
from recsys.errors import InputError


def matrix(column: pa.ChunkedArray, ids: pa.ChunkedArray, where: str, dtype: DTypeLike, width: int = 0) -> NDArray:
    """[n, D] in `dtype` of n > 0 lists of D finite floats; of integers there may be a scale somewhere, so none.

    ids: [n], to name a vector by. where: the file, and what of it. width: the D expected, 0 for any above 0.

    Raises:
        InputError: the column is not that.
    """
    kind = column.type
    if not (is_list(kind) or pat.is_fixed_size_list(kind)) or not pat.is_floating(kind.value_type):
        raise InputError(f"{where}: column 'vector': expected lists of float32, found {kind}")
    if column.null_count:
        raise InputError(f"{where}: column 'vector': expected no nulls, found {column.null_count}")
    lengths = pc.list_value_length(column).to_numpy()
    width = width or int(lengths[0])
    if not width:
        raise InputError(f"{where}: column 'vector': expected at least one value in a vector, found none")
    bad = lengths != width
    if not bad.any():
        with np.errstate(over="ignore"):  # what overflows is refused for being infinite
            found = pc.list_flatten(column).to_numpy().astype(dtype, copy=False).reshape(-1, width)
        bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        name = ids[int(np.argmax(bad))].as_py()
        raise InputError(f"{where}: column 'vector': id {name!r}: expected {width} finite values")
    return found
