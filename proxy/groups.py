"""Layers of an encoder in groups, shallow to deep (IDProxy, section 3.2.1).

Legend: n items, L layers, H encoder width.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError


def group(states_nLH: NDArray[np.float32], groups: int, seed: int = 0) -> list[list[int]]:
    """Layers by k-means on their pooled states over a sample of items, each group in order, the shallowest first.

    A layer is one point: its items' states, each of length 1, since layers differ in scale more than in what they say.

    Raises:
        InputError: fewer layers than groups, or layers so alike that they do not make so many.
    """
    count = states_nLH.shape[1]
    require(count, groups)
    length = np.linalg.norm(states_nLH, axis=2, keepdims=True)
    points = np.ascontiguousarray((states_nLH / np.maximum(length, 1e-12)).transpose(1, 0, 2).reshape(count, -1))
    means = faiss.Kmeans(points.shape[1], groups, niter=50, nredo=8, seed=seed, min_points_per_centroid=1)
    means.train(points)
    nearest = means.index.search(points, 1)[1][:, 0]
    found = [np.flatnonzero(nearest == k).tolist() for k in range(groups)]
    if not all(found):
        raise InputError(f"proxy.groups: the encoder's {count} layers do not fall into {groups} groups: lower it")
    return sorted(found, key=lambda layers: float(np.mean(layers)))


def require(depth: int, groups: int) -> None:
    """An encoder has a layer at least for each group.

    Raises:
        InputError: it has not.
    """
    if depth < groups:
        raise InputError(f"proxy.groups: expected at most {depth}, the encoder's layers, found {groups}")
