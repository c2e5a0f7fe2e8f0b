"""Parquet files of a dataset, wherever they are: those on this machine are opened by their paths alone."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError
from recsys.storage import Location

Stamp = tuple[int, int | str]
"""Bytes of a file, and when it was written, in ns, or of an object the store's tag of what is in it."""


def opened(
    path: Location, texts: list[str] | None = None, ahead: bool = True, footer: pq.FileMetaData | None = None
) -> pq.ParquetFile:
    """A Parquet file to be read by row group, and closed.

    texts: Parquet paths of columns to read dictionary-encoded.
    footer: its own, where it has been read before.
    ahead: of an object, ask for all columns of a row group at once; `iter_batches` would so ask for all row groups.

    Raises:
        FileNotFoundError, OSError, pyarrow.ArrowInvalid: it is not there, cannot be read, or is not Parquet.
    """
    if isinstance(path, Path):
        return pq.ParquetFile(path, metadata=footer, read_dictionary=texts)
    told: dict[str, Any] = {"metadata": footer, "read_dictionary": texts, "pre_buffer": ahead}
    return pq.ParquetFile(path.path, filesystem=path.filesystem, **told)


def schema_of(path: Location) -> pa.Schema:
    """Its columns and their types; raises as `opened`."""
    return pq.read_schema(path) if isinstance(path, Path) else pq.read_schema(path.path, filesystem=path.filesystem)


def metadata_of(path: Location) -> pq.FileMetaData:
    """Its footer; raises as `opened`."""
    if isinstance(path, Path):
        return pq.read_metadata(path)
    return pq.read_metadata(path.path, filesystem=path.filesystem)


def table_of(path: Location, columns: list[str] | None = None) -> pa.Table:
    """All its rows.

    Raises:
        InputError: an object that is not there or cannot be read.
        FileNotFoundError, OSError, pyarrow.ArrowInvalid: the same of a file on this machine.
    """
    if isinstance(path, Path):
        return pq.read_table(path, columns=columns)
    try:
        with opened(path) as file:
            return file.read(columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def stamp(path: Location) -> Stamp:
    """Another for a file that has been written since; of a store that tells neither a tag nor a time, if it has another
    size.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    if isinstance(path, Path):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    with path.filesystem.open_input_file(path.path) as file:
        size, tag = file.size(), (file.metadata() or {}).get("ETag")
    # A store's clock may count whole seconds, so its tag comes first.
    return size, tag.decode() if tag else path.filesystem.get_file_info(path.path).mtime_ns


def writer(path: Location, schema: pa.Schema) -> pq.ParquetWriter:
    """Writes row groups of these columns, to be closed."""
    told: dict[str, Any] = {"compression": "zstd", "store_schema": False}
    if isinstance(path, Path):
        return pq.ParquetWriter(path, schema, **told)
    return pq.ParquetWriter(path.path, schema, filesystem=path.filesystem, **told)
