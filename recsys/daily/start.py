"""A run that begins from another's model, on new rows: the same weights and optimizer state, and rows for new ids.

Its id maps are those of the run before, with the new ids of its training rows behind them; a table whose size is not
declared grows where they do not fit. Lineage and trained dense part stay what they are, and steps and deltas are
counted on: rows made for the run before fit this one, and the difference of two days' checkpoints is a delta
(`tools.delta --diff`) unless a table has grown in between.

Legend: n new items, D table width.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from recsys import runs
from recsys.config import Config
from recsys.data.check import check
from recsys.data.encode import ITEM, USER, Encoder
from recsys.data.fit import capacity_of, count
from recsys.data.ids import UNKNOWN, IdMap
from recsys.data.schema import ITEMS
from recsys.data.side import decoded
from recsys.distributed import Ranks, of_first, together
from recsys.tables import checkpoint, log
from recsys.tables.admit import starts
from recsys.tables.checkpoint import Progress
from recsys.tables.locks import reading
from recsys.tables.rows import Rows
from recsys.tables.sharding import Sharded
from recsys.tables.version import Version
from recsys.train import build


@dataclass(frozen=True)
class Admitted:
    """Of one table: its new ids that have got rows and those that have not, the ids it has then, and its rows."""

    new: int
    unknown: int
    ids: int
    capacity: int


@dataclass(frozen=True)
class Started:
    """What a run began from: the version of its model, and its ids by table."""

    version: str
    admitted: dict[str, Admitted]


def start(config: Config, before: Config, ranks: Ranks) -> Started:
    """Begin the run of `config` from the best checkpoint of the run `before`: its first checkpoint is the same model.

    What a killed call has left is made again.

    Raises:
        InputError: the dataset is not sound (`recsys.data.check`), or either run is of another config or dataset.
    """
    run, was = Path(config.run), Path(before.run)
    admitted = of_first(ranks, lambda: _admitted(config, before))
    encoder = Encoder.load(config, run / "encoder")
    sharded = build(config, encoder, ranks)
    with reading(was) if ranks.is_first else nullcontext():
        source = of_first(ranks, lambda: checkpoint.best(was / "checkpoints"))
        progress = checkpoint.load(source, sharded, grown=True)
        version = checkpoint.version_of(source)
        old = Encoder.load(before, was / "encoder").maps
        vectors = together(lambda: _vectors(config, source, old, encoder))
    _write(config, sharded, vectors, encoder.maps, old, ranks)
    checkpoint.save(run / "checkpoints", sharded, Progress(step=progress.step), config.train.keep, version)
    return Started(version.name, admitted)


def _admitted(config: Config, before: Config) -> dict[str, Admitted]:
    """Check the dataset, and write the run's config and encoder."""
    run, was = Path(config.run), Path(before.run)
    runs.bring_up(before)
    check(config)
    runs.begin(config)
    old, counted = Encoder.load(config, was / "encoder"), count(config)
    maps, found = dict(old.maps), {}
    for name, (ids, counts) in counted.ids.items():
        spare = None if capacity_of(config, name) else config.model.spare
        maps[name] = grown = old.maps[name].grow(ids, counts, spare)
        strange = int((old.maps[name].rows(ids) == UNKNOWN).sum())
        unknown = int((grown.rows(ids) == UNKNOWN).sum())
        found[name] = Admitted(strange - unknown, unknown, len(grown.ids) - grown.ids.null_count, grown.capacity)
    log.follow(run, _version(was).delta)
    Encoder(config, maps, old.scalers, old.lineage, old.widths).save(run / "encoder")
    return found


def _version(run: Path) -> Version:
    return checkpoint.version_of(checkpoint.best(run / "checkpoints"))


def _vectors(config: Config, source: Path, old: Mapping[str, IdMap], encoder: Encoder) -> torch.Tensor:
    """[n, D] what new items start from, in the order of `_new`."""
    items = pq.read_table(Path(config.data.path) / ITEMS, columns=["item_id", "categories"])
    new = _new(old[ITEM], encoder.maps[ITEM])
    if not len(new):
        return torch.zeros(0, config.model.dim)
    place = pc.index_in(new, decoded(items["item_id"]).combine_chunks().cast(new.type))
    kinds = decoded(items["categories"]).combine_chunks().take(place)
    return starts(config, source, old[ITEM], pa.table({"item_id": new, "categories": kinds}))


def _new(old: IdMap, now: IdMap) -> pa.Array:
    """Ids that have a row now and had none, by row."""
    ids = now.ids.drop_null()
    return ids.filter(pa.array(old.rows(ids) == UNKNOWN))


def _write(
    config: Config,
    sharded: Sharded,
    vectors: torch.Tensor,
    maps: Mapping[str, IdMap],
    old: Mapping[str, IdMap],
    ranks: Ranks,
) -> None:
    """New items start as `tables.start` says, new users as the unknown one where training hid users; other new ids as
    an untrained table has them. Collective."""
    rows, mine = Rows(sharded, ranks), slice(ranks.rank, None, ranks.world_size)
    places = torch.from_numpy(maps[ITEM].rows(_new(old[ITEM], maps[ITEM])))
    rows.write(ITEM, places[mine], vectors[mine])
    if USER in rows.tables and config.train.hide_users > 0:
        places = torch.from_numpy(maps[USER].rows(_new(old[USER], maps[USER])))[mine]
        unknown, _ = rows.read(USER, torch.tensor([UNKNOWN]))
        rows.write(USER, places, unknown.expand(len(places), -1))
