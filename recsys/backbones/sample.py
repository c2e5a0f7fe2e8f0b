"""Batches of training positives, each with a negative: a warm item that the user has no training positive of.

Cold items are no negatives. They have no edge, so a sampler that drew from all items would only ever push them down,
below every item that anybody likes, whatever is later known of them.
"""

from collections.abc import Iterator

import numpy as np

from recsys.backbones.graph import Codes, Graph


def batches(graph: Graph, size: int, seed: int, epoch: int) -> Iterator[tuple[Codes, Codes, Codes]]:
    """Users, positives and negatives [B] of every edge once, in an order of the epoch's own, `size` at a time.

    The order takes 8 bytes an edge. All is a function of (seed, epoch), so a resumed run needs no generator's state.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(graph.edges))
    for start in range(0, len(order), size):
        user, positive = graph.ends(graph.edges[order[start : start + size]])
        yield user, positive, negatives(graph, user, random)


def negatives(graph: Graph, user: Codes, random: np.random.Generator) -> Codes:
    """[B] for each user [B], drawn uniformly from the warm items without an edge to the user, of which there is one."""
    drawn = random.integers(graph.warm, size=len(user))
    open_ = np.arange(len(user))
    while len(open_ := open_[graph.has(user[open_], drawn[open_])]):
        drawn[open_] = random.integers(graph.warm, size=len(open_))
    return drawn
