"""A prompt network's tables and weights, laid over the ranks and kept like those of any run.

    <run>/prompt/host/<name>/encoder/<table>.parquet    whose each row of a per-item table is
    <run>/prompt/host/<name>/checkpoints/               see `recsys.tables.checkpoint`
    <run>/prompt/host/<name>/deltas/                    rows that were changed since, see `recsys.tables.log`
    <run>/prompt/host/<name>/export/                    the ranker and its prompts for serving, see `.serving`

The per-item tables have the planner, the row-wise Adagrad fused into backward, the checkpoints, deltas and parts of
every other table; of the base nothing is in them. Row 0 stands for items that pose as new and for those without a row;
each held-out item has one from the start. The lineage is that of the base, the dataset and all settings that training
depends on.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from recsys.coldrows.frozen import Frozen
from recsys.config import Config
from recsys.config_prompt_model import Tuning
from recsys.config_train import Train
from recsys.data.encode import ITEM, InputSpec, TableSpec
from recsys.data.ids import IdMap
from recsys.data.schema import read_info
from recsys.distributed import Ranks, of_first, on_first
from recsys.errors import InputError
from recsys.model.prompt import Promo, PromoLoss
from recsys.model.prompt_parameters import prompt_tables
from recsys.prompt.settings import settings_of
from recsys.settings import bound
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.tables.plan import make_plan
from recsys.tables.sharding import Sharded, lay
from recsys.tables.version import Version

FREE = ("epochs", "patience", "passes", "finetune")
"""Settings of `prompt.tuning` that the trained network does not depend on, or that may change at a resume."""


def folder_of(config: Config) -> Path:
    """Where the config's network is kept."""
    return Path(config.run) / "prompt" / "host" / config.prompt.name


@dataclass(frozen=True, eq=False)
class Network:
    """A live network.

    Attributes:
        ids: whose the rows of the per-item tables are, by table.
        specs: the tables.
    """

    folder: Path
    specs: list[TableSpec]
    ids: dict[str, IdMap]
    sharded: Sharded
    progress: Progress
    version: Version

    @classmethod
    def open(cls, frozen: Frozen, base: str) -> "Network":
        """The network of the frozen ranker's config at its newest intact checkpoint; a fresh one where there is none.
        Collective.

        base: the version of the frozen ranker.

        Raises:
            InputError: a setting that no network beside the ranker has, or checkpoints of which none is intact, or of
                another base, dataset or setting.
        """
        config, ranks = frozen.encoder.config, frozen.ranks
        _require(config)
        folder, lineage = folder_of(config), _lineage(config, base)
        begun = of_first(ranks, lambda: _begun(folder, lineage))
        on_first(ranks, lambda: _begin(folder, frozen))
        specs = prompt_tables(config.prompt.model, config.model.dim, _capacity(folder, config))
        sharded = _laid(config, specs, ranks)
        if begun:
            progress, version = checkpoint.resume(folder, sharded, ranks)
            progress = replace(progress, done=ended(progress, config.prompt.tuning))
        else:
            progress, version = Progress(), of_first(ranks, lambda: Version.new(lineage))
        dist.barrier()
        ids = {spec.name: IdMap.load(_map(folder, spec.name)) for spec in specs}
        return cls(folder, specs, ids, sharded, progress, version)

    def restore(self) -> "Network":
        """The same at its best checkpoint. Collective.

        Raises:
            InputError: there is none, or it is damaged.
        """
        best = checkpoint.best(self.folder / "checkpoints")
        return replace(self, progress=checkpoint.load(best, self.sharded), version=checkpoint.version_of(best))

    @property
    def rows(self) -> IdMap:
        """Whose the rows are; of several tables an item has the same row in each."""
        return self.ids[self.specs[0].name]

    @property
    def model(self) -> Promo:
        """The network itself."""
        return self.sharded.model.module.prompt


def _require(config: Config) -> None:
    model = config.prompt.model
    if model.network != "item":
        raise InputError(
            f"prompt.model.network={model.network}: beside the ranker each item has its own: expected item"
        )
    if model.information not in ("pinnacle", "ids"):
        raise InputError(
            f"prompt.model.information={model.information}: the ranker itself reads the items' features: expected "
            "pinnacle or ids"
        )


def _lineage(config: Config, base: str) -> str:
    tuning, model = bound(config.prompt.tuning, FREE), bound(config.prompt.model, ["sharding"])
    told = [base, read_info(config.data.path).fingerprint, settings_of(config.prompt), model, tuning]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def ended(progress: Progress, tuning: Tuning) -> bool:
    """Whether training is over, under settings that may have changed since it began."""
    judged = progress.best_auc >= 0
    return judged and (progress.epoch >= tuning.epochs or progress.worse >= tuning.patience)


def _begun(folder: Path, lineage: str) -> bool:
    path = checkpoint.latest(folder / "checkpoints")
    if path and checkpoint.version_of(path).lineage != lineage:
        raise InputError(
            f"{folder}: begun beside another base, on another dataset or with other settings of `prompt`: give another "
            "prompt.name, or remove the folder"
        )
    return bool(checkpoint.found(folder / "checkpoints"))


def _map(folder: Path, table: str) -> Path:
    return folder / "encoder" / f"{table}.parquet"


def _begin(folder: Path, frozen: Frozen) -> None:
    """Give every item of the frozen ranker a row in each table, unless that has been done."""
    config, known = frozen.encoder.config, frozen.encoder.maps[ITEM]
    capacity = max(known.capacity, frozen.capacity)
    for spec in prompt_tables(config.prompt.model, config.model.dim, capacity):
        if not _map(folder, spec.name).exists():
            IdMap(spec.name, known.ids, known.counts, capacity).save(_map(folder, spec.name))


def _capacity(folder: Path, config: Config) -> int:
    first = prompt_tables(config.prompt.model, config.model.dim, 1)[0]
    return IdMap.load(_map(folder, first.name)).capacity


def promo(config: Config, capacity: int) -> Promo:
    """A freshly initialised network; its tables of `capacity` rows are on the meta device.

    Raises:
        InputError: as `Promo`.
    """
    users, tables = config.model.top[-1], torch.device("meta")
    return Promo(config.prompt.model, config.model.dim, capacity, device=tables, users=users)


def _laid(config: Config, specs: list[TableSpec], ranks: Ranks) -> Sharded:
    """A freshly initialised network. Collective."""
    tuning = config.prompt.tuning
    torch.manual_seed(tuning.seed)
    loss = PromoLoss(promo(config, specs[0].capacity), config.prompt.model)
    # As in `recsys.train.build`: no two ranks' shards begin alike.
    torch.manual_seed(tuning.seed + 1_000_003 * (ranks.rank + 1))
    train = Train(batch_size=tuning.batch, lr=tuning.lr, table_lr=tuning.table_lr)
    spec = InputSpec(item=TableSpec(ITEM, 1, "auto"), single=specs, multi=[], dense=0, history=0)
    plan, _ = make_plan(loss, spec, Config(train=train), ranks)
    return lay(loss, plan, train, ranks)
