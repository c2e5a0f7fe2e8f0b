"""Vectors of cold items that are hung into the trained graph: one propagation to them, and none from them.

    E_k(i) = step_k(sum over users u of i: E_(k-1)(u) / sqrt(d_u d_i), E_(k-1)(i))          k = 1 to K

with the users' trained states, their trained degrees d_u, and d_i the number of i's users. All trained nodes keep their
vectors bit for bit.

Legend: U users, K cold items or layers, n edges, D width.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.backbones.graph import Codes, Graph
from recsys.errors import InputError
from recsys.model.backbones import MF

Matrix = NDArray[np.float32]


@torch.inference_mode()
def attach(model: MF, graph: Graph, user: Codes, item: Codes, rows: Tensor) -> Matrix:
    """[K, D], ngcf [K, (K + 1) D]: vectors of cold items with edges between `user` [n] and `item` [n], positions among
    the cold ones, each pair once.

    rows: [K, D] their E_0.

    Raises:
        InputError: the model does not propagate.
    """
    if not model.layers:
        raise InputError("propagate: backbone.kind=mf propagates nothing: expected ngcf or lightgcn")
    degree = np.maximum(np.bincount(item, minlength=len(rows)), 1)
    value = 1 / np.sqrt(graph.degrees()[0][user] * degree[item])
    edges = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([item, user])),
        torch.from_numpy(value).float(),
        (len(rows), len(graph.users)),
        check_invariants=True,
    )
    found = [rows]
    for layer, state in enumerate(model.states()[:-1]):
        found.append(model.step(layer, edges @ state[: len(graph.users)], found[-1]))
    return model.joined(found).numpy()
