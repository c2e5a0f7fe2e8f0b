"""Vectors of items that came after the others, in half precision: encoded once, for every ranker that reads the folder.

    <vectors>/generated/part-00000.parquet    item_id, digest (of the content), coarse [D], layers [k H]

Parts are written whole, one after another, and never changed; of an item that several hold the last one counts.

Legend: n items, D ID width, H encoder width, k groups.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import InputError
from recsys.files import locked, replacing

CONTENT = "content.parquet"
"""Beside the parts: item_id and digest of what the folder's own files were made from."""
PART = 2048
"""Items of a part, about."""
Kind = Literal["coarse", "layers"]


def folder_of(vectors: Path) -> Path:
    """Where the parts of a folder of vectors are."""
    return vectors / "generated"


def changing(vectors: Path) -> AbstractContextManager[object]:
    """For whoever adds to a folder of vectors, or replaces it: one process."""
    return locked(vectors.parent / f".{vectors.name}.lock")


def count(vectors: Path) -> int:
    """Rows of all parts, by their footers; of a damaged part none."""
    rows = 0
    for path in folder_of(vectors).glob("part-*.parquet"):
        with suppress(pa.ArrowException, OSError):
            rows += pq.read_metadata(path).num_rows
    return rows


class Store:
    """The items of all parts; ids and digests are in memory, vectors are read as they are asked for.

    Attributes:
        ids: [n] distinct ids, in the order of their parts.

    Raises:
        InputError: a part is damaged, or holds ids of another type than `kind`.
    """

    def __init__(self, vectors: Path, kind: pa.DataType) -> None:
        self.folder, self.kind = folder_of(vectors), kind
        self._paths = sorted(self.folder.glob("part-*.parquet"))
        tables = [self._read(path, ["item_id", "digest"]) for path in self._paths]
        ids = pa.chunked_array([table["item_id"].combine_chunks() for table in tables], kind)
        parts = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
        rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(table.num_rows) for table in tables)])
        index = pd.Index(ids.to_pandas())
        last = np.flatnonzero(~index.duplicated(keep="last"))
        self.ids: pa.Array = pa.chunked_array([ids.take(pa.array(last))], kind).combine_chunks()
        self._index, self._part, self._row = index[last], parts[last], rows[last]
        digests = [digest for table in tables for digest in table["digest"].to_pylist()]
        self._digests = [digests[k] for k in last]
        self._first = self._made_from(vectors / CONTENT)
        # Rows are asked for about in the order of the parts.
        self._vectors = lru_cache(maxsize=2)(self._column)

    def find(self, ids: pa.Array) -> NDArray[np.int64]:
        """[m] places of ids in `ids`, -1 for one that is not there."""
        found: NDArray[np.int64] = self._index.get_indexer(ids.cast(self.kind).to_pandas()).astype(np.int64)
        return found

    def holds(self, ids: pa.Array, digests: list[bytes]) -> NDArray[np.bool_]:
        """[m] whether an item has vectors of the content of this digest: the last ones, or if no part has any, those
        in the folder's own files."""
        last = [
            self._digests[at] if at >= 0 else self._first.get(name)
            for at, name in zip(self.find(ids).tolist(), ids.to_pylist(), strict=True)
        ]
        return np.array([one == other for one, other in zip(last, digests, strict=True)], bool)

    def take(self, at: NDArray[np.int64], kind: Kind) -> Tensor:
        """[m, D] or [m, k H] float16 vectors of the items at these places.

        Raises:
            InputError: a part is damaged.
        """
        pieces = [(np.flatnonzero(self._part[at] == k), int(k)) for k in np.unique(self._part[at])]
        found = [self._vectors(k, kind)[self._row[at[here]]] for here, k in pieces]
        made = np.empty((len(at), found[0].shape[1] if found else 0), np.float16)
        for (here, _), vectors in zip(pieces, found, strict=True):
            made[here] = vectors
        return torch.from_numpy(made)

    def chunks(self, at: NDArray[np.int64], size: int = 2 * PART) -> Iterator[NDArray[np.int64]]:
        """Places in this order, some thousand at a time."""
        yield from (at[start : start + size] for start in range(0, len(at), size))

    def append(self, ids: pa.Array, digests: list[bytes], coarse: Tensor, layers: Tensor) -> None:
        """Write a part; it is found by the next `Store` of the folder."""
        number = int(self._paths[-1].stem.removeprefix("part-")) + 1 if self._paths else 0
        path = self.folder / f"part-{number:05d}.parquet"
        columns = {"item_id": ids.cast(self.kind), "digest": pa.array(digests, pa.binary(16))}
        for name, vectors in (("coarse", coarse), ("layers", layers)):
            half = vectors.half().numpy()
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(half.reshape(-1)), half.shape[1])
        with replacing(path) as partial:
            pq.write_table(pa.table(columns), partial, use_dictionary=False, write_page_checksum=True)
        self._paths.append(path)

    def _made_from(self, path: Path) -> dict[Any, bytes]:
        """Digests of the files' items by id; a folder of generated vectors alone has none."""
        if not path.exists():
            return {}
        table = self._read(path, ["item_id", "digest"])
        return dict(zip(table["item_id"].to_pylist(), table["digest"].to_pylist(), strict=True))

    def _column(self, part: int, kind: Kind) -> NDArray[np.float16]:
        column = self._read(self._paths[part], [kind])[kind].combine_chunks()
        flat: NDArray[np.float16] = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), -1)

    def _read(self, path: Path, columns: list[str]) -> pa.Table:
        try:
            table = pq.read_table(path, columns=columns, page_checksum_verification=True)
            missing = [name for name in columns if name not in table.column_names]
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: damaged: {error}: remove it and generate its items again") from None
        if missing or ("item_id" in columns and table["item_id"].type != self.kind):
            raise InputError(
                f"{path}: expected {', '.join(columns)} with ids of type {self.kind}, as they are generated"
            )
        return table
