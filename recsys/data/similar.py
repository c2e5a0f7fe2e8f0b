"""The popular item that is most like another one: whose pinnacle feedback an item without its own borrows.

Legend: I items, D width, P popular items.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.data.log import Codes
from recsys.errors import InputError

BLOCK = 4096
"""Items a side of a block of similarities: 64 MiB each of a few matrices."""


def lenders(vectors: NDArray[np.float32], positives: NDArray[np.integer], popular: int) -> Codes:
    """[I] for each item the popular one that lends it its list; a popular one is its own.

    Args:
        vectors: [I, D] the base model's item vectors h.
        positives: [I] positive training events of each item (`numpy.diff(feedback.positive.start)`).
        popular: the least of them that make an item popular.

    Raises:
        InputError: a vector that is not finite, or no popular item.
    """
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise InputError(f"item vectors: row {int(np.argmax(bad))}: expected {vectors.shape[1]} finite values")
    many = positives >= popular
    if not many.any():
        raise InputError(
            f"prompt.popular={popular}: no item has as many positive training events: the most is {positives.max()}"
        )
    lender = np.arange(len(vectors), dtype=np.int32)
    lender[~many] = most_similar(vectors, np.flatnonzero(~many), np.flatnonzero(many))
    return lender


def most_similar(vectors: NDArray[np.float32], asked: NDArray[np.int64], among: NDArray[np.int64]) -> Codes:
    """[len(asked)] the item of `among` with the highest Tanimoto similarity to each asked one (equation 5).

    v = h_a . h_b / (|h_a|^2 + |h_b|^2 - h_a . h_b); 0 between two zero vectors. Of equals, the first in `among`.
    """
    best = np.empty(len(asked), np.int32)
    for first in range(0, len(asked), BLOCK):
        part = slice(first, first + BLOCK)
        best[part] = _most_similar(vectors[asked[part]], vectors, among)
    return best


def _most_similar(h: NDArray[np.float32], vectors: NDArray[np.float32], among: NDArray[np.int64]) -> Codes:
    best, highest = np.full(len(h), -1, np.int32), np.full(len(h), -np.inf, np.float32)
    for first in range(0, len(among), BLOCK):
        others = among[first : first + BLOCK]
        similar = tanimoto(h, vectors[others])
        place = similar.argmax(axis=1)
        found = similar[np.arange(len(h)), place]
        better = found > highest
        best[better], highest[better] = others[place[better]], found[better]
    return best


def tanimoto(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """[A, B] similarities of vectors [A, D] and [B, D]."""
    dot = a @ b.T
    below = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - dot
    return np.divide(dot, below, out=np.zeros_like(dot), where=below > 0)
