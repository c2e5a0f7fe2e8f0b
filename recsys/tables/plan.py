"""Which rank is to hold what: the planner under the config's constraints, and the shardings that are refused.

Every sharding by torchrec's own name; all of them train to what one process would have learned, on CPU by gloo:

    row_wise          rows over all ranks                table_wise          whole on one rank
    column_wise       columns over ranks                 data_parallel       whole on every rank
    table_row_wise    rows over one host's ranks         table_column_wise   columns over one host's ranks
    grid_shard        columns over hosts, a piece's rows over that host's ranks

Where columns are cut, into as many equal pieces as there are places for them and multiples of 4 columns allow, each
piece keeps row-wise Adagrad's sums of its own columns: it learns as tables of that width do.
"""

import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    KernelConfig,
    ParameterConstraints,
    PlannerError,
    ShardingOption,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ShardingPlan, ShardingType

from recsys.config import Config
from recsys.data.encode import InputSpec, TableSpec
from recsys.distributed import Ranks, on_first
from recsys.errors import InputError
from recsys.training import groups

DATA_PARALLEL = ShardingType.DATA_PARALLEL.value
_SEQUENCE = [ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value, ShardingType.COLUMN_WISE.value]
_HOSTS = [ShardingType.TABLE_ROW_WISE.value, ShardingType.TABLE_COLUMN_WISE.value, ShardingType.GRID_SHARD.value]
_COLUMNS = [ShardingType.COLUMN_WISE.value, ShardingType.TABLE_COLUMN_WISE.value, ShardingType.GRID_SHARD.value]
_POOLED = [*_SEQUENCE, *_HOSTS, DATA_PARALLEL]


class _BagSharder(EmbeddingBagCollectionSharder):
    """Offers every sharding on CPU too: they work on gloo, though torchrec's own list leaves some of them out."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return _POOLED


def sharders() -> list:
    """Those of the ranker's two collections of tables."""
    return [_BagSharder(), EmbeddingCollectionSharder()]


def make_plan(
    model: nn.Module, spec: InputSpec, config: Config, ranks: Ranks
) -> tuple[ShardingPlan, list[ShardingOption]]:
    """Lay the tables of a model on the meta device over the ranks; nothing is allocated. Collective.

    Returns:
        The plan, and on the first rank the planner's own account of it (elsewhere nothing).

    Raises:
        InputError: a table cannot be sharded so on these ranks, or the tables do not fit.
    """
    topology = TopologyFactory.create_topology(
        TrainerConfig(world_size=ranks.world_size, local_world_size=ranks.local_world_size),
        kernel_config=KernelConfig(compute_device=ranks.device.type),
    )
    options: list[ShardingOption] = []

    def keep(chosen: list[ShardingOption]) -> list[ShardingOption]:
        options.extend(chosen)
        return chosen

    planner = EmbeddingShardingPlanner(
        topology=topology,
        batch_size=config.train.batch_size,
        storage_reservation=FixedPercentageStorageReservation(percentage=0.15),
        constraints=_constraints(spec, config, ranks),
        debug=False,
        callbacks=[keep],
    )
    made: list[ShardingPlan | None] = [None]

    def plan() -> None:
        check(spec, config, ranks)
        try:
            made[0] = planner.plan(model, sharders())
        except PlannerError as error:
            raise InputError(f"no sharding fits these ranks: {str(error).splitlines()[-1].strip()}") from None

    on_first(ranks, plan)
    dist.broadcast_object_list(made, src=0, device=torch.device("cpu"))
    assert made[0] is not None
    return made[0], options


def tables_of(spec: InputSpec) -> list[TableSpec]:
    """Every table of the ranker, the item table first."""
    return [spec.item, *spec.single, *spec.multi, *spec.content]


def check(spec: InputSpec, config: Config, ranks: Ranks) -> None:
    """Require that every table can be sharded as the config says.

    Raises:
        InputError: the first that cannot, with the reason.
    """
    for table in tables_of(spec):
        reason = _refusal(table, table is spec.item or table in spec.content, config, ranks)
        if reason:
            raise InputError(f"table {table.name}: sharding {table.sharding}: {reason}")


def _refusal(table: TableSpec, sequence: bool, config: Config, ranks: Ranks) -> str | None:
    """Why this sharding of a table would crash, or would not learn what it should."""
    sharding, places, dim = table.sharding, _column_places(table.sharding, ranks), table.dim or config.model.dim
    if sequence and sharding == DATA_PARALLEL:
        return "torchrec computes wrong results with it for tables of sequences, which those of items are"
    if sequence and sharding in _HOSTS:
        return f"torchrec has it for pooled tables alone; those of items take {', '.join(_SEQUENCE)}"
    if sharding in _HOSTS and ranks.world_size % ranks.local_world_size:
        return f"{ranks.world_size} ranks do not divide into hosts of {ranks.local_world_size}"
    if sharding == ShardingType.GRID_SHARD.value and table.capacity == 1 and ranks.world_size > ranks.local_world_size:
        return "torchrec fails to lay a single row over several hosts"
    if sharding in _COLUMNS and places > 1 and _columns(dim, places) == dim:
        return f"{dim} columns do not divide into 2 to {places} pieces, each a multiple of 4"
    if sharding == DATA_PARALLEL and groups.of_table(config.train, table.name).weight_decay:
        return "train.table_weight_decay would shrink rows that no step has named; expected 0"
    if sharding == DATA_PARALLEL and config.model.table_dtype != "fp32":
        return "its optimizer would keep its sums in fp16, too coarse to learn by; expected model.table_dtype=fp32"
    return None


def _constraints(spec: InputSpec, config: Config, ranks: Ranks) -> dict[str, ParameterConstraints]:
    constraints = {}
    for table in tables_of(spec):
        dim, automatic = table.dim or config.model.dim, table.sharding == "auto"
        kernel = EmbeddingComputeKernel.DENSE if table.sharding == DATA_PARALLEL else EmbeddingComputeKernel.FUSED
        constraints[table.name] = ParameterConstraints(
            # A table of a width of its own may be so wide that the planner cuts its columns, into unequal pieces.
            sharding_types=_SEQUENCE[: 2 if table.dim else 3] if automatic else [table.sharding],
            compute_kernels=[kernel.value],
            # Cutting changes what is learned: the planner by itself cuts only tables of 256 columns and more.
            min_partition=None if automatic else _columns(dim, _column_places(table.sharding, ranks)),
            pooling_factors=_rows_a_sample(table, spec, config),
        )
    return constraints


def _rows_a_sample(table: TableSpec, spec: InputSpec, config: Config) -> list[float]:
    """Rows of a table that a sample names, about, for each key of its values."""
    if table is spec.item:
        return [1.0, float(spec.history)]
    if table in spec.content and config.model.proxy.place == "slot":
        return [min(1.0 + spec.history, table.capacity / config.train.batch_size)]  # each row once a batch
    return [1.0]


def _column_places(sharding: str, ranks: Ranks) -> int:
    """How many places the columns of a table may lie in."""
    if sharding == ShardingType.GRID_SHARD.value:
        return ranks.world_size // ranks.local_world_size
    return ranks.local_world_size if sharding == ShardingType.TABLE_COLUMN_WISE.value else ranks.world_size


def _columns(dim: int, places: int) -> int:
    """Columns of a piece, a multiple of 4, of the most equal pieces that find a place each."""
    pieces = next(k for k in range(min(places, dim // 4), 0, -1) if dim % (4 * k) == 0)
    return dim // pieces
