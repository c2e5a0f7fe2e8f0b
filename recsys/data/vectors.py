"""Vectors of items as Parquet (item_id, vector), as anybody wrote them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.data import parquet
from recsys.data.check import same_ids
from recsys.data.matrix import matrix
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.storage import Location

_ROWS = 2048


def read(path: Path, kind: pa.DataType) -> Iterator[tuple[pa.Array, NDArray[np.float64]]]:
    """Item ids [n] and vectors [n, H], some thousand at a time; items whose vector is null are left out.

    kind: the type of the dataset's ids. All ids of the file are in memory, to find any that is there twice.

    Raises:
        InputError: not Parquet with item_id and vector, ids of another type, null or there twice, or a vector that is
            not of the first one's width, empty or not finite.
    """
    with opened(path) as file:
        names = file.schema_arrow.names
        if not {"item_id", "vector"} <= {*names}:
            raise InputError(f"{path}: expected columns item_id and vector, found {', '.join(names)}")
        require_ids(file, path, kind)
        width = 0
        for batch in batches(file, path, ["item_id", "vector"]):
            told = pa.table(batch.filter(batch["vector"].is_valid()))
            if told.num_rows:
                vectors = matrix(told["vector"], told["item_id"], str(path), np.float64, width)
                width = vectors.shape[1]
                yield told["item_id"].combine_chunks(), vectors


def of(path: Path, wanted: pa.Array) -> NDArray[np.float64]:
    """[N, H] vectors of the items `wanted` [N], NaN for one that is not there.

    Raises:
        InputError: as `read`, or no item is there.
    """
    found: NDArray[np.float64] | None = None
    for ids, x in read(path, wanted.type):
        found = np.full((len(wanted), x.shape[1]), np.nan) if found is None else found
        places = pc.index_in(wanted, ids.cast(wanted.type))
        known = places.is_valid().to_numpy(zero_copy_only=False)
        found[known] = x[places.drop_null().to_numpy()]
    if found is None or np.isnan(found).all():
        raise InputError(f"{path}: none of {len(wanted)} items has a vector there")
    return found


def require_ids(file: pq.ParquetFile, path: Path, kind: pa.DataType) -> None:
    """Refuse a file whose items cannot be told apart, or not from those of the dataset; all its ids are in memory.

    Raises:
        InputError: no column item_id, or ids of another type than `kind`, null or there twice.
    """
    names = file.schema_arrow.names
    if names.count("item_id") != 1:
        raise InputError(f"{path}: expected one column item_id, found {', '.join(names)}")
    found = file.schema_arrow.field("item_id").type
    if not same_ids(found, kind):
        raise InputError(f"{path}: column 'item_id': expected {kind} as in the dataset, found {found}")
    _once(path, [batch["item_id"] for batch in batches(file, path, ["item_id"])])


def opened(path: Location) -> pq.ParquetFile:
    """The file, its footer read.

    Raises:
        InputError: not Parquet.
    """
    try:
        return parquet.opened(path, ahead=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: truncated or not Parquet: {error}") from None


def batches(file: pq.ParquetFile, path: Location, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The columns of the file, some thousand rows at a time.

    Raises:
        InputError: it is damaged.
    """
    try:
        yield from file.iter_batches(_ROWS, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged: {error}") from None


def _once(path: Path, parts: list[pa.Array]) -> None:
    ids = decoded(pa.chunked_array(parts)) if parts else pa.chunked_array([], pa.string())
    if ids.null_count:
        raise InputError(f"{path}: column 'item_id': expected no nulls, found {ids.null_count}")
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        name, count = twice[0]["values"].as_py(), twice[0]["counts"]
        raise InputError(f"{path}: column 'item_id': {name!r} occurs {count} times; expected once")
