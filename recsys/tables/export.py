"""Export of a run's tables for serving: Parquet and safetensors parts, and a manifest of checksums.

    <run>/export/manifest.json                                   written last
    <run>/export/parquet/<table>/part-00000.parquet              id, row, vector
    <run>/export/safetensors/<table>/part-00000.safetensors      the same vectors as one tensor `vector` [n, D]

Parts hold the rows 0 to the last that an id owns, in order, `part_rows` a part; free rows are left out. Row 0 stands
for every unknown id: its `id` is null. Row r of a table lies at position r - start of the part that spans it; the
manifest gives each part's start and stop. The bytes depend on the checkpoint's values alone, not on its sharding nor
on the ranks that export.

No table is gathered. A rank reads the rows of its own parts straight from the checkpoint, table by table, so it holds
rows / ranks of one table, and while reading one stored shard, which is what a training rank held.
"""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import yaml
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from recsys.config import Config
from recsys.data.ids import IdMap
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.files import replacing, sync
from recsys.tables import checkpoint, manifest

PART_ROWS = 65536
"""Most rows in a part."""

_TABLE = re.compile(r"\.(?:embedding_bags|embeddings)\.(?P<name>.+)\.weight$")


@dataclass(frozen=True)
class Table:
    """One table to export: `tensor` is its name in the checkpoint, [capacity, dim]; rows 0 to `rows` are written."""

    name: str
    tensor: str
    ids: IdMap
    dim: int

    @property
    def rows(self) -> int:
        """Rows in use: the unknown row and one for each id."""
        return len(self.ids.ids) + 1

    def parts(self, part_rows: int) -> list[range]:
        """The rows of each part."""
        return [range(start, min(start + part_rows, self.rows)) for start in range(0, self.rows, part_rows)]


def export(config: Config, ranks: Ranks, part_rows: int = PART_ROWS) -> Path:
    """Write the tables of the run's best checkpoint to `<run>/export/`, all of it or nothing. Collective.

    Raises:
        InputError: the run has no checkpoint, it cannot be read, or its tables are not those of the run's id maps.
    """
    run = Path(config.run)
    source = checkpoint.best(run / "checkpoints")
    tables = tables_of(run, source)
    folder = run / "export"
    with replacing(folder) if ranks.is_first else nullcontext() as partial:
        target = _of_first(partial)
        target.mkdir(parents=True, exist_ok=True)
        files = _write_share(tables, source, target, ranks, part_rows)
        if ranks.is_first:
            described = {table.name: _describe(table, part_rows) for table in tables}
            manifest.write(target, files, source=_lineage(run, source), tables=described)
    dist.barrier()
    return folder


def tables_of(run: Path, source: Path) -> list[Table]:
    """The tables in the checkpoint `source` with the run's id maps, by name.

    Raises:
        InputError: a table without an id map, or of another capacity than its map.
    """
    tables = []
    for tensor, shape in checkpoint.stored_tensors(source).items():
        if match := _TABLE.search(tensor):
            ids = IdMap.load(run / "encoder" / f"{match['name']}.parquet")
            if ids.capacity != shape[0]:
                raise InputError(
                    f"{source}: checkpoint of another model: table {match['name']} has {shape[0]} rows, the id map in "
                    f"{run / 'encoder'} is for {ids.capacity}"
                )
            tables.append(Table(match["name"], tensor, ids, shape[1]))
    return sorted(tables, key=lambda table: table.name)


def read_rows(source: Path, tensor: str, dim: int, rows: range) -> Tensor:
    """[n, dim] float32: consecutive rows of one stored tensor, whatever sharding it was saved under.

    Collective where there is a process group, each rank with rows of its own (none is allowed).

    Raises:
        InputError: the checkpoint cannot be read.
    """
    name = f"model.{tensor}"
    state = {name: torch.empty(len(rows), dim)}
    try:
        dcp.load(state, checkpoint_id=source, planner=_RowsPlanner(rows.start))
    except Exception as error:  # DCP raises what its storage raises
        raise InputError(f"{source}: tensor {tensor}: cannot be read: {error}") from None
    return state[name]


class _RowsPlanner(dcp.DefaultLoadPlanner):
    """Loads tensors that are the rows from `start` on of larger stored ones."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def create_local_plan(self) -> LoadPlan:
        items = []
        stored = self.metadata.state_dict_metadata if self.metadata else {}
        for name, tensor in self.state_dict.items():
            entry = stored.get(name)
            if not isinstance(entry, TensorStorageMetadata):
                raise ValueError("no such tensor in the checkpoint")
            if len(tensor):
                wanted = ChunkStorageMetadata(torch.Size([self.start, 0]), tensor.size())
                items += create_read_items_for_chunk_list(name, entry, [wanted])
        return LoadPlan(items)

    def lookup_tensor(self, index: dcp.metadata.MetadataIndex) -> Tensor:
        return self.state_dict[index.fqn]


def _write_share(tables: list[Table], source: Path, folder: Path, ranks: Ranks, part_rows: int) -> manifest.Files:
    """Write this rank's parts of every table; the files of all ranks, on the first one."""
    files: manifest.Files = {}
    for k, table in enumerate(tables):
        # Turned by one rank a table, so that the many tables of a single part do not all fall to the same rank.
        place = (ranks.rank + k) % ranks.world_size
        for path in _write_parts(table, source, folder, place, ranks.world_size, part_rows):
            files[str(path.relative_to(folder))] = manifest.stamp(path)
    gathered: list[manifest.Files | None] | None = [None] * ranks.world_size if ranks.is_first else None
    dist.gather_object(files, gathered)
    return {path: stamp for part in gathered or [] for path, stamp in sorted((part or {}).items())}


def _write_parts(table: Table, source: Path, folder: Path, place: int, places: int, part_rows: int) -> Iterator[Path]:
    parts = table.parts(part_rows)
    low, high = place * len(parts) // places, (place + 1) * len(parts) // places
    mine = range(parts[low].start, parts[high - 1].stop) if low < high else range(0)
    vectors = read_rows(source, table.tensor, table.dim, mine)
    for k in range(low, high):
        part = vectors[parts[k].start - mine.start : parts[k].stop - mine.start]
        for kind, write in (("parquet", _write_parquet), ("safetensors", _write_safetensors)):
            path = folder / _part_path(kind, table, k)
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, table, parts[k], part)
            sync(path)
            yield path


def _write_parquet(path: Path, table: Table, rows: range, vectors: Tensor) -> None:
    kind = table.ids.ids.type
    ids = [pa.nulls(1, kind)] if rows.start == 0 else []
    owned = table.ids.ids.slice(max(rows.start - 1, 0), rows.stop - max(rows.start, 1))
    schema = pa.schema(
        [
            pa.field("id", kind),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), table.dim), nullable=False),
        ]
    )
    columns = [
        pa.concat_arrays([*ids, owned]),
        pa.array(range(rows.start, rows.stop), pa.int64()),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.numpy().reshape(-1)), table.dim),
    ]
    # A dictionary would only grow it: ids are distinct and weights nearly so.
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd", use_dictionary=False)


def _write_safetensors(path: Path, table: Table, rows: range, vectors: Tensor) -> None:
    # A slice would be refused or saved with all that it is a slice of.
    # One key: safetensors writes several in random order, and the bytes must not depend on that.
    save_file({"vector": vectors.clone()}, path, metadata={"rows": f"{table.name}[{rows.start}:{rows.stop}]"})


def _part_path(kind: str, table: Table, k: int) -> str:
    return f"{kind}/{table.name}/part-{k:05d}.{kind}"


def _describe(table: Table, part_rows: int) -> dict[str, object]:
    return {
        "rows": table.rows,
        "capacity": table.ids.capacity,
        "dim": table.dim,
        "id_type": str(table.ids.ids.type),
        "parts": [
            {
                "start": rows.start,
                "stop": rows.stop,
                "parquet": _part_path("parquet", table, k),
                "safetensors": _part_path("safetensors", table, k),
            }
            for k, rows in enumerate(table.parts(part_rows))
        ],
    }


def _lineage(run: Path, source: Path) -> dict[str, object]:
    """Where the vectors come from: run, checkpoint and the config it was trained with."""
    progress = checkpoint.progress_of(source)
    trained = run / "config.yaml"
    try:
        config = yaml.safe_load(trained.read_text())
    except OSError as error:
        raise InputError(f"{trained}: the run's config cannot be read: {error}") from None
    return {
        "run": str(run),
        "checkpoint": source.name,
        "step": progress.step,
        "best_auc": progress.best_auc,
        "config": config,
    }


def _of_first(path: Path | None) -> Path:
    """The first rank's path, on every rank. Collective."""
    box = [str(path)]
    dist.broadcast_object_list(box)
    return Path(box[0])
