"""Vectors of cold items from labelled pairs, by the loss that the backbone was trained with, all else frozen.

    minimise  sum over pairs (u, i, y), references j    w / R  softplus((1 - 2y) (u . v_i - u . j))
              + strength / 2  sum over i (v_i - start_i)' C^-1 (v_i - start_i)                      over v_i: [D]

What a user took is compared with R warm items that they did not take, as in BPR; what they did not take with R that
they took, as when BPR draws it as a negative. So v_i finds its place among the warm items, and the prior (start, C)
keeps what the pairs do not tell.

How many of an item's pairs are positive is the doing of whoever made them. Balanced, they say nothing of how popular it
is: with p the probability of each comparison at the start,

    A = sum over positives (1 - p)      B = sum over negatives p      w+ = 2B / (A + B)      w- = 2A / (A + B)

for each item, so that its pairs neither raise nor lower all of its scores alike, and an item with pairs of one label
stays where it is. Users without a training positive have no vector: their pairs are left out.

Legend: U users, I items, K cold items, P pairs, R references, D width.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import embedding, softplus

from recsys.backbones.graph import Codes, Graph
from recsys.backbones.sample import negatives
from recsys.coldrows.prior import Prior

Vector = NDArray[np.float64]
Matrix = NDArray[np.float32]
TOLERANCE = 1e-7
"""Converged when a step improves the objective by a smaller share of it."""
PASSES = 500
"""At most."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of users and cold items."""

    user: Codes
    """[P] user codes of the graph."""
    item: Codes
    """[P] positions among the cold items: item codes less `graph.warm`."""
    label: NDArray[np.int8]
    """[P] 1 for a user who takes the item."""


@dataclass(frozen=True, eq=False)
class Comparisons:
    """What each pair is compared with. All float64, on the CPU; P (D + R) numbers.

    user: [P, D] the users' vectors. item: [P] int64. sign: [P] 1 for positives, -1 for negatives. reference: [P, R]
    scores u . j. weight: [P].
    """

    user: Tensor
    item: Tensor
    sign: Tensor
    reference: Tensor
    weight: Tensor

    def margins(self, rows: Tensor) -> Tensor:
        """[P, R] by how much each comparison comes out as labelled under vectors [K, D]."""
        score = (self.user * embedding(self.item, rows)).sum(dim=1)
        return self.sign[:, None] * (score[:, None] - self.reference)

    def loss(self, rows: Tensor) -> Tensor:
        """The sum over pairs under vectors [K, D]."""
        return (self.weight * softplus(-self.margins(rows)).mean(dim=1)).sum()


def compare(graph: Graph, pairs: Pairs, users: Matrix, items: Matrix, each: int, seed: int) -> Comparisons:
    """Draw `each` references of every pair; weights are 1. users, items: the backbone's vectors [U, D] and [I, D]."""
    random = np.random.default_rng(seed)
    user, taken = np.repeat(pairs.user, each), np.repeat(pairs.label, each) > 0
    other = np.empty(len(user), np.int64)
    other[taken] = negatives(graph, user[taken], random)
    other[~taken] = _positives(graph, user[~taken], random)
    reference = np.einsum("pd,pd->p", users[user], items[other], dtype=np.float64).reshape(-1, each)
    return Comparisons(
        torch.from_numpy(users[pairs.user]).double(),
        torch.from_numpy(pairs.item),
        torch.from_numpy(pairs.label.astype(np.float64) * 2 - 1),
        torch.from_numpy(reference),
        torch.ones(len(pairs.user), dtype=torch.float64),
    )


def balanced(made: Comparisons, start: Tensor) -> Comparisons:
    """With the weights w+ and w- of each item, from `start` [K, D]."""
    wrong = made.margins(start).neg().sigmoid().mean(dim=1)
    positive, negative = (
        torch.zeros(len(start), dtype=torch.float64).index_add_(0, made.item, wrong * (made.sign == sign))
        for sign in (1, -1)
    )
    other = torch.where(made.sign > 0, negative[made.item], positive[made.item])
    both = (positive + negative).clamp(min=torch.finfo(torch.float64).tiny)
    return replace(made, weight=2 * other / both[made.item])


def solve(made: Comparisons, prior: Prior, strength: float) -> tuple[Matrix, bool]:
    """v [K, D], by L-BFGS over Z with v = start + Z L', L L' = C; and whether it converged."""
    start, factor = prior.start.double(), prior.factor()

    def objective(z: Vector) -> tuple[float, Vector]:
        rows = (start + torch.from_numpy(z).view_as(start) @ factor.T).requires_grad_()
        loss = made.loss(rows)
        (gradient,) = torch.autograd.grad(loss, rows)
        return loss.item() + strength / 2 * float(z @ z), (gradient @ factor).numpy().ravel() + strength * z

    options = {"ftol": TOLERANCE, "gtol": 0.0, "maxfun": PASSES, "maxiter": PASSES}
    found = minimize(objective, np.zeros(start.numel()), jac=True, method="L-BFGS-B", options=options)
    rows = start + torch.from_numpy(found.x).view_as(start) @ factor.T
    return rows.float().numpy(), found.status != 1


def _positives(graph: Graph, user: Codes, random: np.random.Generator) -> Codes:
    """[n] for each user [n], all with an edge, one of the items that they have an edge to."""
    degree = graph.degrees()[0]
    first = np.cumsum(degree) - degree
    return graph.ends(graph.edges[first[user] + (random.random(len(user)) * degree[user]).astype(np.int64)])[1]
