"""Vectors for new items to start from: the mean of warm items, by category where it has one that is warm."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys.data.side import lists
from recsys.tables.stored import StoredTensor

_PIECE = 65536
"""Rows read at a time."""


@dataclass(frozen=True, eq=False)
class Starts:
    """Means of warm vectors: of every category in `kinds` [c], `means` [c, D], and of all, `overall` [D]; float32."""

    kinds: pa.Array
    means: Tensor
    overall: Tensor

    @classmethod
    def of(cls, weight: StoredTensor, rows: Tensor, categories: pa.ChunkedArray) -> "Starts":
        """From the warm items at `rows` [n] int64 of a stored table, with their categories [n] (lists of strings)."""
        kinds = pc.unique(lists(categories)[0]).drop_null()
        sums, counts = torch.zeros(len(kinds) + 1, weight.dim), torch.zeros(len(kinds) + 1)
        total = torch.zeros(weight.dim)
        for start in range(0, len(rows), _PIECE):
            vectors = weight.take(rows[start : start + _PIECE]).float()
            place, code = _coded(categories[start : start + _PIECE], kinds)
            sums.index_add_(0, code, vectors[place])
            counts.index_add_(0, code, torch.ones(len(code)))
            total += vectors.sum(0)
        return cls(kinds, (sums / counts.unsqueeze(1))[:-1], total / max(len(rows), 1))

    def of_new(self, categories: pa.ChunkedArray) -> Tensor:
        """[n, D] the mean over an item's warm categories of their means, `overall` for an item without any."""
        place, code = _coded(categories, self.kinds)
        warm = code < len(self.kinds)
        place, code = place[warm], code[warm]
        count = torch.zeros(len(categories)).index_add_(0, place, torch.ones(len(place))).unsqueeze(1)
        sums = torch.zeros(len(categories), len(self.overall)).index_add_(0, place, self.means[code])
        return torch.where(count > 0, sums / count.clamp(min=1), self.overall)


def _coded(categories: pa.ChunkedArray, kinds: pa.Array) -> tuple[Tensor, Tensor]:
    """Of each category named: the place of its item, and its place among `kinds`, behind them if it is not there."""
    named, offsets = lists(categories)
    code = pc.index_in(named, kinds).fill_null(len(kinds)).to_numpy(zero_copy_only=False).astype(np.int64)
    return torch.from_numpy(np.repeat(np.arange(len(categories)), np.diff(offsets))), torch.from_numpy(code)
