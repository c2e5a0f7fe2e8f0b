"""A generated log as files, day by day; a day that is there is not made again.

    <path>/generate.yaml                        the settings, but for path and days
    <path>/users.parquet                        user_id, country, age, interest
    <path>/items/day=00000/part-0.parquet       items that appear by the start of the day, not before
    <path>/interactions/day=00000/part-0.parquet  user_id, item_id, timestamp, clicked, device, in order of time
    <path>/truth/day=00000/part-0.parquet       chance of a click, row for row of the interactions

A file appears whole or not at all, a day's interactions last. Memory does not grow with rows: see `rows`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tqdm import tqdm

from recsys import settings
from recsys.config_generate import Generate
from recsys.errors import InputError
from recsys.files import replacing
from recsys.generate import side
from recsys.generate.rows import CHUNK, impressions
from recsys.generate.world import Ids

MANIFEST = "generate.yaml"


def generate(config: Generate) -> int:
    """Write what is not there yet; returns how many days were made.

    Raises:
        InputError: the folder holds a log of other settings, or something else.
    """
    root = Path(config.path)
    _begin(root, config)
    if not (root / "users.parquet").exists():
        _write(root / "users.parquet", _tables(0, config.users, side.users, config))
    missing = [day for day in range(config.days) if not part(root, "interactions", day).exists()]
    with tqdm(total=len(missing) * config.rows_a_day, desc="generating", unit=" rows", disable=None) as bar:
        for day in missing:
            _day(root, day, config, bar)
    return len(missing)


def part(root: Path, kind: str, day: int) -> Path:
    """Where a day's `interactions`, `items` or `truth` are."""
    return root / kind / f"day={day:05d}" / "part-0.parquet"


def _begin(root: Path, config: Generate) -> None:
    asked = {key: value for key, value in asdict(config).items() if key not in ("path", "days")}
    manifest = root / MANIFEST
    if manifest.exists():
        made = settings.read(manifest)
        for key, value in asked.items():
            if made.get(key) != value:
                raise InputError(
                    f"{manifest}: {key}: the log was generated with {made.get(key)!r}, the config says {value!r}; "
                    "give another path=..."
                )
    elif root.exists() and any(root.iterdir()):
        raise InputError(f"{root}: holds files but no {MANIFEST}; expected a generated log or nothing there")
    else:
        with replacing(manifest) as partial:
            partial.write_text(yaml.safe_dump(asked, sort_keys=False))


def _day(root: Path, day: int, config: Generate, bar: tqdm) -> None:
    known = config.items + config.new_items * day
    first = known - config.new_items if day else 0
    _write(part(root, "items", day), _tables(first, known, side.items, config))
    truth, interactions = part(root, "truth", day), part(root, "interactions", day)
    # The inner file takes its name first.
    with replacing(interactions) as rows, replacing(truth) as chances:
        made = impressions(day, config)
        writers: list[pq.ParquetWriter] = []
        try:
            for table, chance in made:
                pair = table, pa.table({"chance": chance.astype(np.float32)})
                writers = writers or [_writer(path, of) for path, of in zip((rows, chances), pair, strict=True)]
                for writer, of in zip(writers, pair, strict=True):
                    writer.write_table(of)
                bar.update(table.num_rows)
        finally:
            for writer in writers:
                writer.close()


def _tables(first: int, last: int, make: Callable[[Ids, Generate], pa.Table], config: Generate) -> Iterator[pa.Table]:
    """Ids from `first` to before `last`, a chunk at a time; one empty table where there are none."""
    for start in range(first, max(last, first + 1), CHUNK):
        yield make(np.arange(start, min(start + CHUNK, last)), config)


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    with replacing(path) as partial:
        writer: pq.ParquetWriter | None = None
        try:
            for table in tables:
                writer = writer or _writer(partial, table)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()


def _writer(path: Path, table: pa.Table) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False)
