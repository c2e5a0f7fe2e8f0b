"""Which items of a user's history the judge is shown.

Legend: U users, I items, D width of the filter's vectors, Q queries, P pairs, C contexts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.data.jagged import Jagged
from recsys.data.splits import keys_at

_CHUNK = 65536
"""Events whose vectors are in memory at once."""


@dataclass(frozen=True, eq=False)
class Queries:
    """By what items are grouped: those of one query share a context of a user."""

    query: NDArray[np.int64]
    """[I] of each item."""
    vectors: NDArray[np.float32] | None
    """[Q, D] that a history's items are compared with; None: with nothing, what is shown is a draw."""

    @staticmethod
    def random(items: int) -> "Queries":
        """One query of all items, and a draw of the history."""
        return Queries(np.zeros(items, np.int64), None)

    @staticmethod
    def each(vectors: NDArray[np.float32]) -> "Queries":
        """Every item by its own vector of [I, D]: eq. 8 as it stands."""
        return Queries(np.arange(len(vectors)), vectors)

    @staticmethod
    def grouped(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> "Queries":
        """Every item of [I, D] by the centre of [Q, D] that it lies nearest to."""
        import faiss

        index = faiss.IndexFlatL2(centres.shape[1])
        index.add(centres)
        found = index.search(np.ascontiguousarray(vectors), 1)[1]
        return Queries(found[:, 0].astype(np.int64), centres)


@dataclass(frozen=True, eq=False)
class Contexts:
    """At most `length` items of a history for each user and query: those nearest to the query, or a draw."""

    histories: Jagged
    """[U] item codes, oldest first."""
    length: int
    queries: Queries
    vectors: NDArray[np.float32]
    """[I, D] of the items by the filter."""
    seed: int = 0
    """Of a draw."""

    def order(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """[P] the pairs sorted so that those of one context, and contexts of one user, lie together."""
        return np.lexsort((pairs[:, 1], self.queries.query[pairs[:, 1]], pairs[:, 0]))

    def of(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], Jagged]:
        """For pairs [P, 2] (user code, item code): [P] the number of each one's context, and the C contexts as item
        codes, oldest first.

        Memory: some 50 bytes for each event of the histories that the C contexts are chosen from.
        """
        count = int(self.queries.query.max(initial=0)) + 1
        keys, which = np.unique(pairs[:, 0] * count + self.queries.query[pairs[:, 1]], return_inverse=True)
        items = self.histories.take(keys // count)
        if self.queries.vectors is None:
            # By user and item: where a history lies among the others depends on what is known of those.
            user = np.repeat(keys // count, items.lengths)
            shown = draw(Jagged(user * len(self.vectors) + items.values, items.offsets), self.length, self.seed)
        else:
            shown = nearest(items, self.vectors, self.queries.vectors[keys % count], self.length)
        offsets = np.concatenate([[0], np.cumsum(np.minimum(items.lengths, self.length))])
        return which, Jagged(items.values[shown], offsets)


def draw(events: Jagged, length: int, seed: int) -> NDArray[np.int64]:
    """Of each user's events at most `length`, at random (LLM-InS, appendix A.1); where there are fewer, all.

    events: for each user numbers [M] int64 of what they took, which nobody else's has, such as rows of the log. One is
        drawn by the seed and the numbers of its own user alone, whoever else is asked about.
    Returns: positions in `events.values`, in their order.
    """
    return _first(events, keys_at(events.values, seed), length)


def nearest(
    events: Jagged, vectors: NDArray[np.float32], queries: NDArray[np.float32], length: int
) -> NDArray[np.int64]:
    """Of each context's events at most `length`, those with the greatest f_query . f_item (ColdLLM, eq. 8).

    events: for each of C contexts the item codes [M] to choose from. vectors: [I, D]. queries: [C, D].
    Returns: positions in `events.values`, in their order; of equal ones the earlier are taken.
    """
    owner = np.repeat(np.arange(len(events.lengths)), events.lengths)
    scores = np.empty(len(owner), np.float32)
    for start in range(0, len(owner), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores[part] = np.einsum("nd,nd->n", vectors[events.values[part]], queries[owner[part]])
    return _first(events, -scores, length)


def _first(events: Jagged, keys: NDArray, length: int) -> NDArray[np.int64]:
    """Of each list at most `length` values, those with the smallest keys: positions in their order."""
    owner = np.repeat(np.arange(len(events.lengths)), events.lengths)
    order = np.lexsort((keys, owner))
    place = np.arange(len(order)) - np.repeat(events.offsets[:-1], events.lengths)
    return np.sort(order[place < length])


def distinct(events: Jagged, known: NDArray[np.bool_]) -> Jagged:
    """The lists of item codes with each item once, where it comes last, and without those that are not `known` [I]."""
    owner = np.repeat(np.arange(len(events.lengths)), events.lengths)
    keys = owner * len(known) + events.values
    _, back = np.unique(keys[::-1], return_index=True)
    kept = np.sort(len(keys) - 1 - back)
    kept = kept[known[events.values[kept]]]
    return Jagged(events.values[kept], np.searchsorted(owner[kept], np.arange(len(events.lengths) + 1)))


def centres(vectors: NDArray[np.float32], groups: int, seed: int) -> NDArray[np.float32]:
    """[groups, D] the centres of vectors [n, D] by k-means; where there are no more vectors than groups, they."""
    import faiss

    if len(vectors) <= groups:
        return vectors
    # Without these bounds faiss warns of few points, and draws a part of many.
    bounds = {"min_points_per_centroid": 1, "max_points_per_centroid": len(vectors)}
    means = faiss.Kmeans(vectors.shape[1], groups, niter=20, seed=seed, **bounds)
    means.train(np.ascontiguousarray(vectors))
    return np.asarray(means.centroids)
