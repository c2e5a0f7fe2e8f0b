"""Lay the tables over ranks: torchrec's planner under the config's constraints, optimizers, and the sharded model."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from fbgemm_gpu.split_table_batched_embeddings_ops_training import WeightDecayMode
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import KernelConfig, ParameterConstraints, TopologyFactory, TrainerConfig
from torchrec.distributed.types import ShardingType
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys.config import Train
from recsys.data.encode import InputSpec
from recsys.distributed import Ranks
from recsys.model.ranker import Ranker, RankerLoss

# Data-parallel tables are left out: the fused optimizer does not update them, and torchrec's sequence tables compute
# wrong results with them on CPU.
_AUTO = [ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value, ShardingType.COLUMN_WISE.value]

_SUM = ".momentum1"
"""What fbgemm's kernels call row-wise Adagrad's sums, behind a table's name."""


class _BagSharder(EmbeddingBagCollectionSharder):
    """Offers row-wise on CPU too: it works on gloo, though torchrec's own list leaves it out."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return _AUTO


@dataclass
class Sharded:
    """A sharded ranker under its loss, and what trains it.

    Attributes:
        optimizer: state of everything that trains; stepping it steps the dense part (tables step in backward).
        dense_optimizer: the part of it for the dense parameters.
    """

    model: DistributedModelParallel
    optimizer: CombinedOptimizer
    dense_optimizer: KeyedOptimizerWrapper

    def set_rates(self, dense: float, tables: float) -> None:
        """Learning rates of the next step; the tables' kernels take theirs when the pipeline clears gradients."""
        for optimizer, rate in ((self.dense_optimizer, dense), (self.model.fused_optimizer, tables)):
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
        return found


def shard(ranker: Ranker, spec: InputSpec, config: Train, ranks: Ranks) -> Sharded:
    """Shard a ranker whose tables are on the meta device; no rank ever allocates a whole row-wise table.

    Collective over all ranks. Tables train by row-wise Adagrad fused into backward, the rest by Adam.
    """
    loss = RankerLoss(ranker)
    table_parameters = [*ranker.bags.parameters(), *ranker.items.parameters()]
    apply_optimizer_in_backward(
        RowWiseAdagrad,
        table_parameters,
        {
            "lr": config.table_lr,
            "weight_decay": config.table_weight_decay,
            # Without a mode fbgemm takes the weight decay and ignores it.
            "weight_decay_mode": WeightDecayMode.L2,
            "eps": 1e-8,
        },
    )
    topology = TopologyFactory.create_topology(
        TrainerConfig(world_size=ranks.world_size, local_world_size=ranks.local_world_size),
        kernel_config=KernelConfig(compute_device=ranks.device.type),
    )
    planner = EmbeddingShardingPlanner(
        topology=topology,
        batch_size=config.batch_size,
        storage_reservation=FixedPercentageStorageReservation(percentage=0.15),
        constraints=_constraints(spec),
        debug=False,
    )
    sharders: list = [_BagSharder(), EmbeddingCollectionSharder()]
    plan = planner.collective_plan(loss, sharders, dist.GroupMember.WORLD)
    model = DistributedModelParallel(module=loss, device=ranks.device, plan=plan, sharders=sharders)
    dense_parameters = dict(in_backward_optimizer_filter(model.named_parameters()))
    adam = KeyedOptimizerWrapper(
        dense_parameters, lambda p: torch.optim.Adam(p, lr=config.lr, weight_decay=config.weight_decay)
    )
    return Sharded(model, CombinedOptimizer([model.fused_optimizer, adam]), adam)


def _constraints(spec: InputSpec) -> dict[str, ParameterConstraints]:
    constraints = {}
    for table in [spec.item, *spec.single, *spec.multi]:
        constraints[table.name] = ParameterConstraints(
            sharding_types=_AUTO if table.sharding == "auto" else [table.sharding],
            compute_kernels=[EmbeddingComputeKernel.FUSED.value],
            pooling_factors=[1.0, float(spec.history)] if table is spec.item else [1.0],
        )
    return constraints
