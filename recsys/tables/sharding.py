"""Lay the tables over ranks: torchrec's planner under the config's constraints, optimizers, and the sharded model."""

import re
from dataclasses import dataclass

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import WeightDecayMode
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingPlan
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys.config import Config, Train
from recsys.data.encode import InputSpec
from recsys.distributed import Ranks
from recsys.model.ranker import Ranker, RankerLoss
from recsys.tables.plan import make_plan, sharders

_TABLE = re.compile(r"(?:^|\.)(?:embedding_bags|embeddings)\.(?P<name>.+)\.weight$")
_EPS = 1e-8
_SUM = ".momentum1"
"""What fbgemm's kernels call row-wise Adagrad's sums, behind a table's name."""


@dataclass
class Sharded:
    """A sharded model under its loss, and what trains it.

    Attributes:
        optimizer: state of everything that trains; stepping it steps the dense part and the data-parallel tables (the
            others step in backward).
        dense_optimizer: the part of it for the dense parameters.
        copied_optimizer: the part of it for the data-parallel tables; None where there are none.
    """

    model: DistributedModelParallel
    optimizer: CombinedOptimizer
    dense_optimizer: KeyedOptimizerWrapper
    copied_optimizer: KeyedOptimizerWrapper | None

    def set_rates(self, dense: float, tables: float) -> None:
        """Learning rates of the next step; the tables' kernels take theirs when the pipeline clears gradients."""
        copied = [self.copied_optimizer] if self.copied_optimizer else []
        for rate, optimizers in ((dense, [self.dense_optimizer]), (tables, [self.model.fused_optimizer, *copied])):
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate

    def states(self) -> dict[str, ShardedTensor | Tensor]:
        """By table, the row-wise Adagrad sums float32 of its N rows, sharing memory with what trains them.

        A `ShardedTensor` [N * c] of a table cut into c column pieces: piece k's sums of row r lie at k * N + r. A rank
        that holds no piece of a table has no such entry. A data-parallel table has a plain tensor [N].
        """
        found: dict[str, ShardedTensor | Tensor] = {}
        for state in self.model.fused_optimizer.state_dict()["state"].values():
            for name, value in state.items():
                if name.endswith(_SUM) and isinstance(value, ShardedTensor):
                    found[name.removesuffix(_SUM)] = value
        if self.copied_optimizer:
            for name, parameter in self.copied_optimizer.params.items():
                found[table_of(name) or name] = self.copied_optimizer.state[parameter]["sum"].view(-1)
        return found


def table_of(tensor: str) -> str | None:
    """The table that a model's tensor is the weight of, by the tensor's name; None: it is no table."""
    match = _TABLE.search(tensor)
    return match["name"] if match else None


def shard(ranker: Ranker, spec: InputSpec, config: Config, ranks: Ranks) -> Sharded:
    """Shard a ranker whose tables are on the meta device; no rank ever allocates more than its pieces of a table.

    Collective over all ranks.

    Raises:
        InputError: a table cannot be sharded so on these ranks.
    """
    loss = RankerLoss(ranker)
    plan, _ = make_plan(loss, spec, config, ranks)
    return lay(loss, plan, config.train, ranks)


def lay(loss: nn.Module, plan: ShardingPlan, train: Train, ranks: Ranks) -> Sharded:
    """Any model with tables on the meta device, under its loss, laid over the ranks by a plan. Collective.

    Tables train by row-wise Adagrad: those that one rank or several hold between them by fbgemm's, fused into backward;
    data-parallel ones, which the fused one does not update, by torchrec's dense one of the same formula. The rest
    trains by Adam.
    """
    apply_optimizer_in_backward(
        RowWiseAdagrad,
        [parameter for name, parameter in loss.named_parameters() if table_of(name)],
        {
            "lr": train.table_lr,
            "weight_decay": train.table_weight_decay,
            # Without a mode fbgemm takes the weight decay and ignores it.
            "weight_decay_mode": WeightDecayMode.L2,
            "eps": _EPS,
        },
    )
    model = DistributedModelParallel(module=loss, device=ranks.device, plan=plan, sharders=sharders())
    parameters = dict(in_backward_optimizer_filter(model.named_parameters()))
    copied = {name: parameters.pop(name) for name in list(parameters) if table_of(name)}
    adam = KeyedOptimizerWrapper(
        parameters, lambda p: torch.optim.Adam(p, lr=train.lr, weight_decay=train.weight_decay)
    )
    optimizers: list[KeyedOptimizer] = [model.fused_optimizer, adam]
    adagrad = None
    if copied:
        adagrad = KeyedOptimizerWrapper(copied, lambda p: RowWiseAdagrad(p, lr=train.table_lr, eps=_EPS))
        optimizers.append(adagrad)
    return Sharded(model, CombinedOptimizer(optimizers), adam, adagrad)
