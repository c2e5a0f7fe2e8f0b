"""Row `delta`: a delta of a million rows x 64 into the tables of a live model, against reading its Parquet.

The rows are at random places of a table of two million. Ours checks every byte, looks at all rows before it writes any,
and so decodes the file twice. `detail` tells what a checkpoint on disk takes, once: there the bytes of the whole
checkpoint are copied and summed anew.
"""

import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.bench.frame import Measured, alternated
from recsys.config import Config, Model
from recsys.data.encode import InputSpec, TableSpec
from recsys.distributed import Ranks
from recsys.model.ranker import Ranker
from recsys.tables import checkpoint, delta, live
from recsys.tables.checkpoint import Progress
from recsys.tables.delta import Delta
from recsys.tables.patch import patch
from recsys.tables.piece import Piece
from recsys.tables.rows import Rows
from recsys.tables.sharding import shard
from recsys.tables.version import Version

NAMED, CAPACITY, DIM = 1_000_000, 2_000_000, 64
ROUNDS = 5
REQUIRED = 0.25


def measure(config: Config, ranks: Ranks) -> Measured:
    """Rows a second, on one rank; it needs nothing of the config."""
    return compare(ranks, NAMED, CAPACITY)


def compare(ranks: Ranks, named: int, capacity: int) -> Measured:
    """Rates of `named` rows into a table of `capacity`. Collective over one rank."""
    model = Config(model=Model(dim=DIM, history=False, cross="dot", bottom=[4], top=[4]))
    single = [TableSpec("large", capacity, "row_wise")]
    spec = InputSpec(item=TableSpec("item_id", 2, "auto"), single=single, multi=[], dense=0, history=0)
    sharded = shard(Ranker(spec, model.model, device=torch.device("meta")), spec, model, ranks)
    version, rows = Version.new("bench"), Rows(sharded, ranks)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        made = _delta(home / "delta", named, capacity, version)
        source = checkpoint.save(home / "checkpoints", sharded, Progress(best_auc=0.5), 1, version)
        start = time.perf_counter()
        patch(source, [made])
        detail = {"rows": named, "of": capacity, "checkpoint_rows_per_second": named / (time.perf_counter() - start)}
        detail["bytes a row"] = (made.folder / "large.parquet").stat().st_size / named

        def bare() -> None:
            with pq.ParquetFile(made.folder / "large.parquet") as file:
                for k in range(file.num_row_groups):
                    file.read_row_group(k)

        def ours() -> None:
            live.apply(delta.read(made.folder), rows, version, ranks)

        return alternated({"ours": ours, "pyarrow.parquet": bare}, named, "rows/s", REQUIRED, ROUNDS, detail)


def _delta(folder: Path, named: int, capacity: int, version: Version) -> Delta:
    torch.manual_seed(0)
    folder.mkdir()
    pieces = []
    for rows in (torch.randperm(capacity - 1)[:named] + 1).sort().values.split(delta.ROWS):
        ids = pa.array([f"new item {row}" for row in rows.tolist()])
        pieces.append(Piece.of("large", rows, ids, torch.randn(len(rows), DIM), "bench", version))
    return delta.write(folder, pieces, 1, 1)
