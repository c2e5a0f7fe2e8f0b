"""Rows that cold items were given, as one file: what made them is told in its metadata.

<folder>/rows.parquet     item_id, vector
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys.errors import InputError
from recsys.files import replacing
from recsys.tables.piece import arrow

NAME = "rows.parquet"
_WRONG = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class About:
    """What made rows."""

    key: str
    """Digest of all that they depend on."""
    base: str
    """The version of the tables that they were made for."""
    found: dict[str, Any]
    """What a reader wants to know of how they were made, such as the gradient steps."""
    seconds: float

    @classmethod
    def read(cls, path: Path) -> "About":
        """What a file of rows tells; the rows are not read.

        Raises:
            InputError: the file is damaged, or not one of these.
        """
        try:
            return cls._of(pq.read_schema(path))
        except _WRONG as error:
            raise _not_one(path, error) from None

    @classmethod
    def _of(cls, schema: pa.Schema) -> "About":
        return cls(**json.loads((schema.metadata or {})[b"about"]))


@dataclass(frozen=True, eq=False)
class Learned:
    """Items [K] and their vectors [K, D] float32."""

    items: pa.Array
    vectors: Tensor
    about: About

    def save(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        flat = arrow(self.vectors.cpu().reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1])
        rows = pa.table({"item_id": self.items, "vector": vectors})
        with replacing(folder / NAME) as partial:
            pq.write_table(rows.replace_schema_metadata({"about": json.dumps(asdict(self.about))}), partial)

    @classmethod
    def read(cls, folder: Path) -> "Learned | None":
        """What was saved; None: nothing.

        Raises:
            InputError: the file is damaged, or not one of these.
        """
        path = folder / NAME
        if not path.exists():
            return None
        try:
            rows = pq.read_table(path)
            about = About._of(rows.schema)
            flat = rows["vector"].combine_chunks().flatten()
            return cls(rows["item_id"].combine_chunks(), torch.tensor(flat.to_numpy()).view(rows.num_rows, -1), about)
        except _WRONG as error:
            raise _not_one(path, error) from None

    @classmethod
    def found(cls, folder: Path, key: str) -> "Learned | None":
        """What was saved under this key; None: nothing, or of another key.

        Raises:
            InputError: the file is damaged, or not one of these.
        """
        rows = cls.read(folder)
        return rows if rows and rows.about.key == key else None


def _not_one(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: expected what tools.simulate, tools.prompt or tools.lifecycle writes: {error}")
