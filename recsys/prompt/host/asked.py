"""Of whom and of what the rows of a split ask, and when: what their feedback lists are made for.

Legend: R rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.check import Place
from recsys.data.feedback_rows import Entities, read_columns, seconds
from recsys.data.log import Codes, Seconds
from recsys.data.pieces import row_groups
from recsys.data.schema import split_files

COLUMNS = ["user_id", "item_id", "timestamp"]


@dataclass(frozen=True)
class Asked:
    """By row id; users and items are rows of users.parquet and items.parquet, -1 without a record. 16 bytes a row."""

    user: Codes
    item: Codes
    second: Seconds

    @classmethod
    def of_split(cls, dataset: Path, split: str, entities: Entities) -> "Asked":
        """All rows of a split.

        Raises:
            InputError: a file that cannot be read, lacks a column, or has a null in one.
        """
        pieces = row_groups(split_files(dataset, split))
        return cls.of(((Place(each.path, each.group), read_columns(each, COLUMNS)) for each in pieces), entities)

    @classmethod
    def of(cls, tables: Iterable[tuple[Place, pa.Table]], entities: Entities) -> "Asked":
        """The rows of tables, one behind the other.

        Raises:
            InputError: a null, or a second that is no integer, with its place.
        """
        parts = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))]
        for place, table in tables:
            for name in COLUMNS:
                if table[name].null_count:
                    raise place.error(name, "is null; expected a value in every row", pc.is_null(table[name]))
            second = seconds(table["timestamp"], place)
            parts.append((entities.user(table["user_id"]), entities.item(table["item_id"]), second))
        user, item, second = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(user, item, second)

    def take(self, row_id: NDArray[np.int64]) -> "Asked":
        """The rows of a batch; padding, -1, asks for an unknown item of nobody."""
        real = row_id >= 0
        user, item, second = (np.where(real, each[row_id], -1) for each in (self.user, self.item, self.second))
        return Asked(user.astype(np.int32), item.astype(np.int32), second)
