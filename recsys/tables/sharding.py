"""Lay the tables over ranks: torchrec's planner under the config's constraints, optimizers, and the sharded model."""

import re
from dataclasses import dataclass
from math import log
from typing import Any

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

from recsys.config import Config
from recsys.config_train import Train
from recsys.data.encode import InputSpec
from recsys.distributed import Ranks
from recsys.model.ranker import Ranker, RankerLoss
from recsys.tables.plan import check, make_plan, sharders
from recsys.training import groups
from recsys.training.dense import DenseOptimizer

_TABLE = re.compile(r"(?:^|\.)(?:embedding_bags|embeddings)\.(?P<name>.+)\.weight$")
_EPS = 1e-8
_SUM = ".momentum1"
"""What fbgemm's kernels call row-wise Adagrad's sums, behind a table's name."""

Rates = list[tuple[dict[str, Any], float]]


@dataclass
class Sharded:
    """A sharded model under its loss, and what trains it.

    Attributes:
        optimizer: state of everything that trains; stepping it steps the dense part and the data-parallel tables (the
            others step in backward).
        dense_optimizer: the part of it for the dense parameters.
        copied_optimizer: the part of it for the data-parallel tables; None where there are none.
        rates: each group of parameters with its full learning rate.
    """

    model: DistributedModelParallel
    optimizer: CombinedOptimizer
    dense_optimizer: DenseOptimizer
    copied_optimizer: KeyedOptimizerWrapper | None
    rates: Rates

    def scale_rates(self, height: float) -> None:
        """Learning rates of the next step, as a share of the full ones; the tables' kernels take theirs when the
        pipeline clears gradients."""
        for group, rate in self.rates:
            group["lr"] = rate * height

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
        InputError: a table cannot be sharded so on these ranks, or a group of `train.groups` matches nothing.
    """
    # Negatives left out multiply the odds by 1 / share; the ranker's own logit is without that.
    loss = RankerLoss(ranker, shift=-log(config.train.keep_negatives))
    plan, _ = make_plan(loss, spec, config, ranks)
    return lay(loss, plan, config.train, ranks)


def refuse(spec: InputSpec, config: Config, ranks: Ranks) -> None:
    """What `shard` would refuse of a config, found from names alone, by this rank alone.

    Raises:
        InputError: as `shard`, unless it is that the tables do not fit.
    """
    check(spec, config, ranks)
    with torch.device("meta"):
        loss = RankerLoss(Ranker(spec, config.model))
    _check_groups([name for name, _ in loss.named_parameters()], config.train)


def lay(loss: nn.Module, plan: ShardingPlan, train: Train, ranks: Ranks) -> Sharded:
    """Any model with tables on the meta device, under its loss, laid over the ranks by a plan. Collective.

    Tables train by row-wise Adagrad: those that one rank or several hold between them by fbgemm's, fused into backward;
    data-parallel ones, which the fused one does not update, by torchrec's dense one of the same formula. The rest
    trains by Adam, or as `train.groups` says.

    Raises:
        InputError: a group of `train.groups` matches nothing.
    """
    named = dict(loss.named_parameters())
    tables = _check_groups(list(named), train)
    rules = {name: groups.of_table(train, table) for name, table in tables.items()}
    for name, rule in rules.items():
        apply_optimizer_in_backward(RowWiseAdagrad, [named[name]], _adagrad(rule))
    model = DistributedModelParallel(module=loss, device=ranks.device, plan=plan, sharders=sharders())
    parameters = dict(in_backward_optimizer_filter(model.named_parameters()))
    copied = {name: parameters.pop(name) for name in list(parameters) if table_of(name)}
    dense = DenseOptimizer(parameters, train)
    optimizers: list[KeyedOptimizer] = [model.fused_optimizer, dense]
    adagrad = None
    if copied:
        by_rate = [{"params": [copied[name]], "lr": rules[name].lr} for name in copied]
        adagrad = KeyedOptimizerWrapper(copied, lambda _: RowWiseAdagrad(by_rate, eps=_EPS))
        optimizers.append(adagrad)
    optimizer = CombinedOptimizer(optimizers)
    full = {tables[name]: rule.lr for name, rule in rules.items()}
    return Sharded(model, optimizer, dense, adagrad, _rates(optimizer, dense, full))


def _check_groups(parameters: list[str], train: Train) -> dict[str, str]:
    """Of those of a model, the tables' weights and what tables they are of."""
    tables = {name: table for name in parameters if (table := table_of(name))}
    groups.check(train, [name for name in parameters if name not in tables], list(tables.values()))
    return tables


def _rates(optimizer: CombinedOptimizer, dense: DenseOptimizer, full: dict[str, float]) -> Rates:
    """Each group of parameters with its learning rate, which for a table is in `full`: kernels round theirs."""
    names = {id(parameter): name for name, parameter in optimizer.params.items()}
    rates = [(group, group["lr"]) for group in dense.param_groups]
    for group in optimizer.param_groups:
        if table := table_of(names[id(group["params"][0])]):
            # Tables of one kernel share all of its arguments.
            rates.append((group, full[table]))
    return rates


def _adagrad(rule: groups.Rule) -> dict[str, Any]:
    # Without a mode fbgemm takes the weight decay and ignores it.
    return {"lr": rule.lr, "weight_decay": rule.weight_decay, "weight_decay_mode": WeightDecayMode.L2, "eps": _EPS}
