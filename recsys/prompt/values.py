"""What a feedback row is worth, against what its user's rows are worth on average (eq. 4's value, made comparable).

One user gives everything four stars, another two: it is the difference that speaks for an item.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.encode import USER, Encoder
from recsys.data.schema import split_files
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups

_STRENGTH = 5.0
"""Rows that the mean of all users counts for in a user's."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Values:
    """Users' mean values in split=train."""

    mean: Doubles
    """[users + 1] by row of the users' side table; entry 0 is for a user without a record."""
    spread: float
    """Standard deviation around the users' means; 1 where there is none."""

    def relative(self, values: Doubles, user: NDArray[np.int64]) -> Doubles:
        """[n] values less their users' means, in units of the spread; 0 where a value is NaN."""
        return np.where(np.isnan(values), 0.0, values - self.mean[user]) / self.spread


def fit(encoder: Encoder) -> Values:
    """Of split=train, in a stream; 16 bytes a user are held.

    Raises:
        InputError: a file that cannot be read, or an infinite value.
    """
    users = len(encoder.users.index.ids) + 1
    rows, total, square = np.zeros(users), np.zeros(users), 0.0
    for file in split_files(Path(encoder.config.data.path), "train"):
        for group, table in read_groups(file, [USER, "value"]):
            user, value = encoder.users.index.rows(table[USER]), read(table["value"], f"{file}: row group {group}")
            known = ~np.isnan(value)
            rows += np.bincount(user[known], minlength=users)
            total += np.bincount(user[known], value[known], users)
            square += float(value[known] @ value[known])
    every = max(rows.sum(), 1.0)
    mean = (total + _STRENGTH * total.sum() / every) / (rows + _STRENGTH)
    variance = (square - 2 * mean @ total + rows @ mean**2) / every
    return Values(mean, float(np.sqrt(variance)) if variance > 1e-12 else 1.0)


def read(column: pa.ChunkedArray, place: str) -> Doubles:
    """[n] the column `value` with NaN for null.

    Raises:
        InputError: a value is NaN or infinite; `place` and the row are named.
    """
    found = column.to_numpy().astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(found) & column.is_valid().to_numpy())
    if len(wrong):
        raise InputError(
            f"{place}: column 'value', row {wrong[0]}: expected a finite number or null, found {found[wrong[0]]}"
        )
    return found
