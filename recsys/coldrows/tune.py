"""Fine-tune E [K, D], the rows of K items, against the frozen ranker, to convergence.

    minimise  sum over rows w BCE(label, ranker with E) + strength / 2 * sum_k (E_k - start_k)' C^-1 (E_k - start_k)

The prior (start, C) keeps in place what the rows do not tell: two rows cannot determine D numbers. As an item's rows
add up it gives way. One gradient is that of all rows (a pass), by L-BFGS over Z with E = start + Z L', L L' = C: no
learning rate, and the same result however the rows are dealt to batches and ranks, to float tolerance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import Prior
from recsys.data.batch import Batch, Batcher
from recsys.data.encode import Block
from recsys.errors import InputError

Vector = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning found."""

    rows: Tensor
    """E [K, D] float32."""
    steps: int = 0
    """Gradient steps: times that E moved."""
    passes: int = 0
    """Gradients computed, each over all rows; more than the steps, by what the line searches tried."""
    examples: int = 0
    """Rows in a pass, of all ranks."""
    converged: bool = True
    """False: `max_passes` ended it."""


class Passes:
    """Passes over rows that the ranks share: batches in order, as many on every rank, the last ones padding.

    Attributes:
        examples: rows of all ranks.
    """

    def __init__(self, frozen: Frozen, block: Block, batch_size: int, weight: Floats | None = None) -> None:
        """Collective. `block`: this rank's share; `weight`: [len(block)] of its rows in a loss, None is 1."""
        self._frozen, self._block, self._weight = frozen, block, weight
        total, most = (torch.tensor(len(block), device=frozen.ranks.device) for _ in range(2))
        dist.all_reduce(total)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        self.examples, self._largest = int(total), int(most)
        self._batcher = Batcher(frozen.encoder, max(min(batch_size, self._largest), 1))

    def __iter__(self) -> Iterator[Batch]:
        size = self._batcher.batch_size
        for begin in range(0, self._largest, size):
            start, stop = (min(row, len(self._block)) for row in (begin, begin + size))
            batch = self._batcher.cut(self._block.slice(start, stop))
            if self._weight is not None:
                batch.weight[: stop - start] = torch.from_numpy(self._weight[start:stop])
            yield batch.to(self._frozen.ranks.device)


def finetune(
    frozen: Frozen,
    block: Block,
    prior: Prior,
    *,
    strength: float,
    tolerance: float,
    max_passes: int,
    batch_size: int,
    weight: Floats | None = None,
) -> Tuned:
    """Minimise over E from the prior's start. Collective; the result is the same on every rank.

    block: this rank's share of the rows, encoded by `frozen.encoder`, held in memory (about 0.6 KB a row with 50 items
        of history); ranks may have any shares, or none.
    weight: w [len(block)] float32; None is 1.
    strength: of the prior; 1 takes its covariance at its word.
    tolerance: converged when a step improves the objective by a smaller share of it.
    batch_size: rows scored at once.
    """
    passes = Passes(frozen, block, batch_size, weight)
    if not passes.examples:
        return Tuned(prior.start)
    start, factor = prior.start.double().cpu(), prior.factor()

    def rows_of(z: Vector) -> Tensor:
        return start + torch.from_numpy(z).view_as(start) @ factor.T

    with tqdm(desc="fine-tune", unit="pass", disable=None if frozen.ranks.is_first else True) as bar:

        def objective(z: Vector) -> tuple[float, Vector]:
            value, gradient = _loss(frozen, passes, rows_of(z).to(prior.start))
            value += strength / 2 * float(z @ z)
            bar.set_postfix(objective=f"{value:.1f}", refresh=False)
            bar.update()
            return value, (gradient @ factor).numpy().ravel() + strength * z

        # gtol 0: the gradient of a sum grows with the rows, so only the relative improvement says converged.
        options = {"ftol": tolerance, "gtol": 0.0, "maxfun": max_passes, "maxiter": max_passes}
        found = minimize(objective, np.zeros(start.numel()), jac=True, method="L-BFGS-B", options=options)
    if not np.isfinite(found.fun):
        raise InputError("fine-tuning: the loss of the rows is not finite; the base's scores of them cannot be")
    ran_out = found.status == 1  # 2: within the precision of float32 no step improves any more
    return Tuned(rows_of(found.x).to(prior.start), int(found.nit), int(found.nfev), passes.examples, not ran_out)


def _loss(frozen: Frozen, passes: Passes, rows_KD: Tensor) -> tuple[float, Tensor]:
    """Weighted BCE of all ranks' rows, and its gradient [K, D] float64."""
    rows_KD = rows_KD.clone().requires_grad_()
    total = torch.zeros(1 + rows_KD.numel(), dtype=torch.float64, device=rows_KD.device)
    for batch in passes:
        logits = frozen.logits(batch, rows_KD)
        loss = binary_cross_entropy_with_logits(logits, batch.label, batch.weight, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, rows_KD)
        total[0] += loss.detach()
        total[1:] += gradient.flatten()
    dist.all_reduce(total)
    # Bit for bit the same everywhere: a rank that saw convergence one pass earlier would leave the others waiting.
    dist.broadcast(total, src=0)
    return float(total[0]), total[1:].cpu().view_as(rows_KD)
