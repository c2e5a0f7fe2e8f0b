"""Write the scores of a split, by row id, from a run's best checkpoint."""

from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from tqdm import tqdm

from recsys import runs
from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.reader import Reader
from recsys.data.schema import SCORES, read_info
from recsys.distributed import Ranks, of_first, on_first
from recsys.files import replacing
from recsys.score import score
from recsys.tables import checkpoint
from recsys.tables.locks import reading
from recsys.tables.sharding import Sharded
from recsys.train import build

_FLUSH_ROWS = 65536


def predict(config: Config, split: str, ranks: Ranks) -> Path:
    """Score every row of `split`, each rank its share into `<run>/scores/<split>/part-<rank>.parquet`. Collective.

    Raises:
        InputError: the run has no checkpoint, or is of another config or dataset.
    """
    on_first(ranks, lambda: runs.bring_up(config))
    run = Path(config.run)
    encoder = Encoder.load(config, run / "encoder")
    sharded = build(config, encoder, ranks)
    with reading(run) if ranks.is_first else nullcontext():
        source = of_first(ranks, lambda: checkpoint.best(run / "checkpoints"))
        checkpoint.load(source, sharded, optimizer=False)
    reader = Reader(encoder, split, config.evaluate.batch_size, ranks.rank, ranks.world_size)
    folder = run / "scores" / split
    write(sharded, reader, folder, ranks)
    unknown = torch.tensor([reader.batcher.unknown_items, reader.batcher.unknown_users], device=ranks.device)
    dist.all_reduce(unknown)
    if ranks.is_first:
        items, users = unknown.tolist()
        tqdm.write(
            f"{split}: {reader.rows:,} rows; in the unknown row: {items:,} by their item, {users:,} by their user"
        )
    return folder


def write(sharded: Sharded, reader: Reader, folder: Path, ranks: Ranks) -> None:
    """Score the reader's rows by a model in memory, each rank its share into `folder`/part-<rank>.parquet. Collective.

    Those of an earlier call are removed.
    """
    # Tells evaluation which rows the row ids number.
    schema = SCORES.with_metadata({"dataset": read_info(reader.encoder.config.data.path).fingerprint})
    if ranks.is_first:
        for stale in folder.glob("part-*.parquet"):
            stale.unlink()
    dist.barrier()
    with replacing(folder / f"part-{ranks.rank:05d}.parquet") as path, pq.ParquetWriter(path, schema) as writer:
        held: list[pa.RecordBatch] = []
        scored = score(sharded, reader, ranks.device)
        quiet = None if ranks.is_first else True
        for logit, _, weight, row_id in tqdm(scored, f"score {folder.name}", reader.steps, unit="step", disable=quiet):
            real = (weight > 0).cpu().numpy()
            columns = [row_id.cpu().numpy()[real], logit.sigmoid().cpu().numpy()[real]]
            held.append(pa.record_batch(columns, schema=schema))
            if sum(batch.num_rows for batch in held) >= _FLUSH_ROWS:
                writer.write_table(pa.Table.from_batches(held))
                held = []
        writer.write_table(pa.Table.from_batches(held, schema))
    dist.barrier()
