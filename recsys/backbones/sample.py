"""Batches of training positives, each with negatives: items, warm or with an edge, that the user has none to.

A cold item without an edge is no negative. A sampler that drew from all items would only ever push it down, below every
item that anybody likes, whatever is later known of it.
"""

from collections.abc import Iterator

import numpy as np

from recsys.backbones.graph import Codes, Graph


def batches(graph: Graph, size: int, each: int, seed: int, epoch: int) -> Iterator[tuple[Codes, Codes, Codes]]:
    """Users [B], positives [B] and `each` negatives [B, each] of every edge once, in an order of the epoch's own.

    The order takes 8 bytes an edge. All is a function of (seed, epoch), so a resumed run needs no generator's state.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(graph.edges))
    for start in range(0, len(order), size):
        user, positive = graph.ends(graph.edges[order[start : start + size]])
        yield user, positive, negatives(graph, np.repeat(user, each), random).reshape(-1, each)


def negatives(graph: Graph, user: Codes, random: np.random.Generator) -> Codes:
    """[n] for each user [n], drawn uniformly from `graph.ranked` less those with an edge to the user, of which one is
    left."""
    drawn = graph.ranked[random.integers(len(graph.ranked), size=len(user))]
    open_ = np.arange(len(user))
    while len(open_ := open_[graph.has(user[open_], drawn[open_])]):
        drawn[open_] = graph.ranked[random.integers(len(graph.ranked), size=len(open_))]
    return drawn
