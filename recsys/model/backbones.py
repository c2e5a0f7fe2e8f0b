"""The backbones of papers' ranking tables: MF, NGCF (arXiv:1905.08108), LightGCN (arXiv:2002.02126), in plain PyTorch.

A node is a user or an item, users first. A user and an item score the dot product of their vectors.

Legend: U users, I items, N = U + I nodes, E edges, D width, K layers, B edges of a batch.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

from recsys.config_backbone import Kind

INIT_STD = 0.01
"""Standard deviation of the initial rows: what a node without an edge keeps, since no gradient reaches it."""
SLOPE = 0.2
"""Of NGCF's LeakyReLU below zero, as in its published code."""


class MF(nn.Module):
    """Matrix factorisation: a node's vector is its row."""

    layers = 0
    """K."""

    def __init__(self, nodes: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(nodes, width).normal_(std=INIT_STD))

    def forward(self) -> Tensor:
        """[N, D], ngcf [N, (K + 1) D]: vectors of all nodes."""
        return self.joined(self.states())

    def states(self) -> list[Tensor]:
        """E_0 to E_K [N, D], what a vector is made of: the rows, and what each propagation makes of them."""
        return [self.rows]

    def step(self, layer: int, near: Tensor, state: Tensor) -> Tensor:
        """E_(layer + 1) of n nodes from `state`, their E_layer [n, D], and `near`, the rows of A E_layer [n, D]."""
        raise NotImplementedError

    def joined(self, states: list[Tensor]) -> Tensor:
        """Vectors of n nodes from their K + 1 states [n, D]."""
        return states[0]


class Propagating(MF):
    """A backbone whose rows are propagated over the graph, K times."""

    adjacency: Tensor

    def __init__(self, adjacency: Tensor, width: int, layers: int) -> None:
        """`adjacency`: A [N, N] of `normalised`."""
        super().__init__(adjacency.shape[0], width)
        self.layers = layers
        self.register_buffer("adjacency", adjacency, persistent=False)

    def states(self) -> list[Tensor]:
        """E_0 to E_K [N, D]."""
        found: list[Tensor] = [self.rows]
        for layer in range(self.layers):
            found.append(self.step(layer, propagate(self.adjacency, found[-1]), found[-1]))
        return found


class LightGCN(Propagating):
    """The mean of a node's row and of what K propagations make of it (eqs. 7 and 8).

        E_k = A E_(k-1)        vectors = (E_0 + ... + E_K) / (K + 1)

    A node without an edge has its initial row over K + 1.
    """

    def step(self, layer: int, near: Tensor, state: Tensor) -> Tensor:
        """What is near."""
        return near

    def joined(self, states: list[Tensor]) -> Tensor:
        """[n, D] their mean."""
        return sum(states[1:], start=states[0]) / len(states)


class NGCF(Propagating):
    """A node's row and its K refinements by messages of its neighbours, side by side (eqs. 3 to 9), without dropout.

        E_k = LeakyReLU((A + 1) E_(k-1) W1_k + (A E_(k-1)) * E_(k-1) W2_k)        vectors = [E_0, ..., E_K]

    with * by element, before W2. A node without an edge has what W1 makes of its initial row.
    """

    def __init__(self, adjacency: Tensor, width: int, layers: int) -> None:
        """`adjacency`: A [N, N] of `normalised`."""
        super().__init__(adjacency, width, layers)
        self.own = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.shared = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        for weight in [*self.own.parameters(), *self.shared.parameters()]:
            nn.init.xavier_uniform_(weight)

    def step(self, layer: int, near: Tensor, state: Tensor) -> Tensor:
        """Both messages, refined."""
        return leaky_relu(self.own[layer](near + state) + self.shared[layer](near * state), SLOPE)

    def joined(self, states: list[Tensor]) -> Tensor:
        """[n, (K + 1) D] side by side."""
        return torch.cat(states, dim=1)


def make(kind: Kind, user: Tensor, item: Tensor, users: int, items: int, width: int, layers: int) -> MF:
    """A backbone with initial weights, drawn by torch's generator; the edges [E] int64 as in `normalised`."""
    if kind == "mf":
        return MF(users + items, width)
    model = {"ngcf": NGCF, "lightgcn": LightGCN}[kind]
    return model(normalised(user, item, users, items), width, layers)


def normalised(user: Tensor, item: Tensor, users: int, items: int) -> Tensor:
    """A = D^-1/2 [[0, R], [R', 0]] D^-1/2, sparse CSR [N, N] float32: 16 bytes an edge, up to 2^30 edges.

    user, item: [E] int64 ends of each edge, sorted by user, each edge once. A node without an edge has a zero row.
    """
    user_degree, item_degree = torch.bincount(user, minlength=users), torch.bincount(item, minlength=items)
    by_item = torch.argsort(item, stable=True)
    column = torch.cat([(item + users).int(), user[by_item].int()])
    degree = torch.cat([user_degree, item_degree])
    scale = degree.clamp(min=1).rsqrt()
    value = scale.repeat_interleave(degree) * scale[column]
    bounds = torch.cat([degree.new_zeros(1), degree.cumsum(0)]).int()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(bounds, column, value, (users + items,) * 2, check_invariants=True)


def propagate(adjacency: Tensor, state: Tensor) -> Tensor:
    """A E [N, D], for a symmetric A [N, N]."""
    found: Tensor = _Propagate.apply(adjacency, state)
    return found


class _Propagate(torch.autograd.Function):
    # Autograd would transpose A in each backward; it is its own transpose.
    @staticmethod
    def forward(ctx: Any, adjacency: Tensor, state: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        return adjacency @ state

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.adjacency @ gradients[0]


def bpr(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln sigmoid(u . p - u . n) over vectors [B, D] of users, their positives and negatives."""
    return softplus((user * (negative - positive)).sum(dim=1)).mean()
