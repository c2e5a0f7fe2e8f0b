"""Rows `export` and `load`: a bundle with a table of a million items, written and read.

`export`: rows a second from the checkpoint's files to Parquet and safetensors parts with their checksums, against
writing the same Parquet from memory. `load`: bytes a second of a verified load into memory, against reading and hashing
the same files. Contenders alternate in one process.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import settings
from recsys.bench.data import make
from recsys.bench.frame import Measured, alternated
from recsys.config import Config
from recsys.data.encode import ITEM, Encoder
from recsys.data.fit import fit
from recsys.distributed import Ranks
from recsys.tables import checkpoint, manifest, parts
from recsys.tables.bundle import Bundle
from recsys.tables.checkpoint import Progress
from recsys.tables.export import PART_ROWS, export
from recsys.tables.stored import StoredTensor
from recsys.tables.version import Version
from recsys.train import build

ITEMS = 1_000_000
ROUNDS = 5
EXPORT_REQUIRED, LOAD_REQUIRED = 0.3, 0.15


def measure_export(config: Config, ranks: Ranks) -> Measured:
    """Rows a second of one table. Collective over one rank."""
    config = saved(config, ranks)
    run = Path(config.run)
    source = checkpoint.best(run / "checkpoints")
    table = next(table for table in parts.tables_of(run, source) if table.name == ITEM)
    stored, folder = StoredTensor(source, table.tensor), run / "written"
    for path in parts.write(table, stored, folder, 0, 1, PART_ROWS, int8=False):
        manifest.stamp(path)
    files = sorted((folder / "parquet" / ITEM).iterdir())
    written = [pq.read_table(path) for path in files]

    def ours() -> None:
        for path in parts.write(table, stored, folder, 0, 1, PART_ROWS, int8=False):
            manifest.stamp(path)

    def bare() -> None:
        for path, part in zip(files, written, strict=True):
            pq.write_table(part, path, compression="zstd", use_dictionary=False)

    contenders = {"ours": ours, "pyarrow.parquet": bare}
    return alternated(contenders, table.rows, "rows/s", EXPORT_REQUIRED, ROUNDS, {"amount": table.rows})


def measure_load(config: Config, ranks: Ranks) -> Measured:
    """Bytes a second of a whole bundle. Collective over one rank."""
    folder = export(saved(config, ranks), ranks)
    files = [path for path in folder.rglob("*") if path.is_file()]

    def bare() -> None:
        for path in files:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")

    contenders = {"ours": lambda: Bundle.load(folder), "reading and SHA-256": bare}
    size = sum(path.stat().st_size for path in files)
    return alternated(contenders, size, "bytes/s", LOAD_REQUIRED, ROUNDS, {"amount": size})


def saved(config: Config, ranks: Ranks) -> Config:
    """A run on the bench's dataset with `ITEMS` more items, its one checkpoint as initialised."""
    make(config.data)
    config = replace(config, run=str(Path(config.run) / "bundle"))
    run = Path(config.run)
    shutil.rmtree(run, ignore_errors=True)
    encoder = fit(config)
    items = encoder.maps[ITEM]
    more = pa.array(np.char.add("new item ", np.arange(ITEMS).astype(str)).tolist())
    grown, _ = replace(items, capacity=len(items.ids) + ITEMS + 1).admit(more)
    encoder = Encoder(config, encoder.maps | {ITEM: grown}, encoder.scalers)
    encoder.save(run / "encoder")
    settings.dump(config, run / "config.yaml")
    sharded, version = build(config, encoder, ranks), Version.new(encoder.lineage)
    checkpoint.save(run / "checkpoints", sharded, Progress(best_auc=0.5), 1, version)
    return config
