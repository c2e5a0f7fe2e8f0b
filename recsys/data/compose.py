"""Several days' datasets as one, without a copy: hard links to their part files, and a sample of still older rows."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data import schema
from recsys.data.pieces import row_groups
from recsys.data.schema import Info
from recsys.errors import InputError
from recsys.files import replacing


def compose(path: Path, days: Sequence[Path], older: Sequence[Path] = (), share: float = 0.0, seed: int = 0) -> Info:
    """Make the dataset directory `path` of the splits of `days`, oldest first, and return its manifest.

    Users and items are those of the newest day, which hold all before it. One that is there already stays.

    Args:
        older, share, seed: training rows of older days, drawn by seed from all that they have: as many as this share of
            the training rows of `days`, or all where there are fewer. They are in memory while they are written.

    Raises:
        InputError: a day's directory is damaged, or `path` is another dataset.
    """
    told = [schema.read_info(day) for day in days]
    mark = _mark(told, [schema.read_info(day) for day in older] if share else [], share, seed)
    if (path / schema.MANIFEST).exists():
        found = schema.read_info(path)
        if found.fingerprint == mark:
            return found
        raise InputError(f"{path}: made of other days than there are now: remove the run, or give another run=...")
    with replacing(path) as partial:
        for name in (schema.USERS, schema.ITEMS, schema.HELD_OUT, schema.SETTINGS):
            _link(days[-1] / name, partial / name)
        for split in schema.SPLITS:
            parts = [part for day in days for part in schema.split_files(day, split)]
            for number, part in enumerate(parts):
                _link(part, _part(partial, split, number))
        counts = {split: sum(info.counts.get(split, 0) for info in told) for split in _splits(told)}
        if rows := _drawn(older, round(share * counts.get("train", 0)), seed):
            pq.write_table(rows, _part(partial, "train", len(schema.split_files(partial, "train"))), compression="zstd")
            counts["train"] += rows.num_rows
        info = replace(told[-1], counts=counts, time_range=_ranges(told), fingerprint=mark)
        schema.write_info(info, partial)
    return info


def _mark(days: list[Info], older: list[Info], share: float, seed: int) -> str:
    told = [[info.fingerprint for info in days], [info.fingerprint for info in older], share, seed if older else 0]
    return hashlib.sha256(str(told).encode()).hexdigest()


def _splits(told: list[Info]) -> list[str]:
    return [split for split in schema.SPLITS if any(split in info.counts for info in told)]


def _ranges(told: list[Info]) -> dict[str, list[int]]:
    """Of the days' own rows; older ones are not in it."""
    ranges = {}
    for split in _splits(told):
        seconds = [second for info in told for second in info.time_range.get(split, [])]
        ranges[split] = [min(seconds), max(seconds)]
    return ranges


def _part(folder: Path, split: str, number: int) -> Path:
    return folder / "interactions" / f"split={split}" / f"part-{number:05d}.parquet"


def _drawn(older: Sequence[Path], count: int, seed: int) -> pa.Table | None:
    """So many training rows of the days, each once, in their order; None where there is none to draw."""
    groups = row_groups([part for day in older for part in schema.split_files(day, "train")]) if count else []
    ends = np.cumsum([group.rows for group in groups])
    total = sum(group.rows for group in groups)
    picked = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False, shuffle=False))
    if not len(picked):
        return None
    tables = []
    for group, rows in zip(groups, np.split(picked, np.searchsorted(picked, ends[:-1])), strict=True):
        if len(rows):
            with pq.ParquetFile(group.path) as file:
                table = file.read_row_group(group.group)
            tables.append(table.take(pa.array(rows - group.first_row)))
    return pa.concat_tables(tables)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if not source.exists():
            raise InputError(f"{source}: no such file: {error}") from None
        shutil.copyfile(source, target)  # another file system, or one without links
