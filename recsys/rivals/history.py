"""A row's history in numbers, for models that read a fixed width: strictly what the row itself carries.

Notation: n rows, T history positions of all rows end to end, I item side rows (0 is an item without a record).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.data.encode import Block, Encoder
from recsys.data.jagged import Jagged
from recsys.rivals.rows import Doubles, Ints

RECENT = (5, 15)
"""Shares of liked items are given over the newest 5, the newest 15 and all history items."""
_STRENGTH = 3.0


@dataclass(frozen=True)
class Traits:
    """One item feature, by item side row: `codes` [I] of a single value, or several values packed in bits.

    Attributes:
        words: [I, ceil(V / 64)] uint64, a missing value is no bit; or None.
        codes: [I] int64, 0 is missing; or None.
    """

    name: str
    words: NDArray[np.uint64] | None = None
    codes: Ints | None = None

    def shared(self, left: Ints, right: Ints) -> NDArray[np.bool_]:
        """[T] whether the items `left` and `right` ([T] side rows) have a value in common."""
        if self.codes is not None:
            return (self.codes[left] == self.codes[right]) & (self.codes[left] > 0)
        assert self.words is not None
        found = np.zeros(len(left), bool)
        for word in self.words.T:  # a word is 64 values: few turns, whatever the rows
            found |= (word[left] & word[right]) != 0
        return found


def traits(encoder: Encoder) -> list[Traits]:
    """Every categorical and multi-valued feature of the items."""
    spec, side = encoder.spec, encoder.items
    names = {feature.name for feature in encoder.config.features if feature.of == "item"}
    singles = [table.name for table in spec.single if table.name in names]
    multis = [table.name for table in spec.multi if table.name in names]
    made = [Traits(name, codes=codes) for name, codes in zip(singles, side.single.T, strict=True)]
    return made + [Traits(name, words=_pack(values)) for name, values in zip(multis, side.multi, strict=True)]


def side_rows(encoder: Encoder) -> Ints:
    """[item table rows] the side row of each item embedding row; 0 for rows without an item."""
    ids = encoder.maps["item_id"]
    found = np.zeros(ids.capacity, np.int64)
    found[1 : len(ids.ids) + 1] = encoder.items.index.rows(ids.ids)
    return found


def liked(encoder: Encoder, block: Block) -> Doubles:
    """[T] 1 for history items that the user liked; all ones where the ranker is not told which."""
    if not encoder.config.model.history_labels:
        return np.ones(len(block.history.values))
    return block.history_label.astype(np.float64)


def summarise(
    block: Block, label: Doubles, quality: Doubles, side: Ints, kinds: list[Traits], prior: Doubles
) -> dict[str, Doubles]:
    """[n] columns by name: length, shares of liked items, and the same among items that share a trait with the target.

    Args:
        label: [T] of `liked`. quality: [T] mean label of each history item as the row may know it.
        side: `side_rows`. kinds: `traits`. prior: [n] mean label over the training rows.

    A residual is the mean of label - quality: whether the user likes more than others do, of what was seen.
    """
    offsets = block.history.offsets
    lengths = block.history.lengths
    row = np.repeat(np.arange(len(lengths)), lengths)
    residual = label - quality
    share = _shrunk(segment_sum(label, offsets), lengths, prior)
    columns = {
        "history length": np.log1p(lengths),
        "history liked": share,
        "history quality": _shrunk(segment_sum(quality, offsets), lengths, prior),
        "history residual": _shrunk(segment_sum(residual, offsets), lengths, 0.0),
    }
    age = np.repeat(offsets[1:], lengths) - np.arange(len(row)) - 1
    for newest in RECENT:
        kept = age < newest
        count = np.minimum(lengths, newest)
        columns[f"history liked {newest}"] = _shrunk(segment_sum(label * kept, offsets), count, share)
        columns[f"history residual {newest}"] = _shrunk(segment_sum(residual * kept, offsets), count, 0.0)
    seen = side[block.history.values]
    for kind in kinds:
        same = kind.shared(block.item[row], seen).astype(np.float64)
        count = segment_sum(same, offsets)
        columns[f"history same {kind.name}"] = count
        columns[f"history liked same {kind.name}"] = _shrunk(segment_sum(label * same, offsets), count, share)
        columns[f"history residual same {kind.name}"] = _shrunk(segment_sum(residual * same, offsets), count, 0.0)
        columns[f"history share same {kind.name}"] = count / np.maximum(lengths, 1)
    return columns


def segment_sum(values: Doubles, offsets: Ints) -> Doubles:
    """[n] sums of values[offsets[k]:offsets[k + 1]]; 0 for an empty segment."""
    ends = np.concatenate([[0.0], np.cumsum(values)])
    return ends[offsets[1:]] - ends[offsets[:-1]]


def _shrunk(total: Doubles, count: Doubles | Ints, prior: Doubles | float) -> Doubles:
    return (total + _STRENGTH * prior) / (count.astype(np.float64) + _STRENGTH)


def _pack(values: Jagged) -> NDArray[np.uint64]:
    item = np.repeat(np.arange(len(values.lengths)), values.lengths)
    bits = np.zeros((len(values.lengths), int(values.values.max(initial=0)) // 64 + 1), np.uint64)
    np.bitwise_or.at(bits, (item, values.values // 64), np.uint64(1) << (values.values % 64).astype(np.uint64))
    bits[:, 0] &= ~np.uint64(1)  # the unknown value is nothing to have in common
    return bits
