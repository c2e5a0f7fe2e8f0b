"""Warm and cold items trained together on real and simulated interactions (LLM-InS, section 4.3).

    <run>/simulator/<name>/dataset/           the run's dataset, linked, with one more part of split=train
    <run>/simulator/<name>/joint/             a run on it, like any other: tools.export and the rest take it by
                                              run=... and data.path=...
    <run>/simulator/<name>/scores.parquet     its scores of the test rows

Items with simulated or kept rows are not held out of that dataset any more. Every training row has the same weight.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.data import schema
from recsys.data.side import decoded
from recsys.distributed import Ranks, on_first
from recsys.evaluate.scores import read_groups
from recsys.files import replacing
from recsys.floor import kept
from recsys.predict import predict
from recsys.rivals.rows import Scored, write_scores
from recsys.train import train
from simulator import states
from simulator.interactions import Interactions

SCORES = "scores.parquet"


def retrain(config: Config, pairs: Interactions, key: str, folder: Path, ranks: Ranks) -> None:
    """Make the dataset, train on it, score the test rows. Collective; what was done for the same `key` stays.

    Raises:
        InputError: as `recsys.train.train`; the folder holds a run on other interactions.
    """
    dataset, run = folder / "dataset", folder / "joint"
    on_first(ranks, lambda: _make(config, pairs, key, dataset))
    made = replace(config, run=str(run), data=replace(config.data, path=str(dataset)))
    train(made, ranks)
    parts = predict(made, "test", ranks)
    told = {
        "dataset": schema.read_info(config.data.path).fingerprint,
        "exposure": str(config.simulator.update.exposure),
    }
    on_first(ranks, lambda: write_scores(folder / SCORES, _scores(parts), key=key, **told))


def _scores(parts: Path) -> Iterator[Scored]:
    for file in sorted(parts.glob("part-*.parquet")):
        for _, table in read_groups(file, ["row_id", "score"]):
            yield table["row_id"].to_numpy(), table["score"].to_numpy().astype(np.float64)


def _make(config: Config, pairs: Interactions, key: str, target: Path) -> None:
    if target.exists() and schema.read_info(target).fingerprint == key:
        return
    source = Path(config.data.path)
    train_files = schema.split_files(source, "train")
    rows = _added(config, pairs, pq.read_schema(train_files[0]))
    info = schema.read_info(source)
    oldest, newest = (getattr(pc, name)(rows["timestamp"]).as_py() for name in ("min", "max"))
    first, last = info.time_range["train"]
    spans = info.time_range | {"train": [min(first, oldest), max(last, newest)]}
    counts = info.counts | {"train": info.counts["train"] + rows.num_rows}
    notes = [*info.notes, f"{len(pairs)} simulated rows and {rows.num_rows - len(pairs)} kept ones are in split=train"]
    with replacing(target) as partial:
        _link(source, partial, {schema.MANIFEST, schema.HELD_OUT})
        part = partial / train_files[0].relative_to(source).with_name(f"part-{len(train_files):05d}.parquet")
        pq.write_table(rows, part, row_group_size=config.data.row_group)
        held = pq.read_table(source / schema.HELD_OUT)
        now = pc.is_in(decoded(held["item_id"]), value_set=pc.unique(rows["item_id"].combine_chunks()))
        pq.write_table(held.filter(pc.invert(now)), partial / schema.HELD_OUT)
        schema.write_info(replace(info, counts=counts, time_range=spans, notes=notes, fingerprint=key), partial)


def _added(config: Config, pairs: Interactions, kinds: pa.Schema) -> pa.Table:
    """Rows with the columns of split=train, in its order."""
    rows = states.simulated(config.data, pairs, slice(None), kinds.names)
    rows = rows.append_column("value", pa.nulls(rows.num_rows, kinds.field("value").type)).select(kinds.names)
    exposure = config.simulator.update.exposure
    parts = [rows, kept.kept_table(Path(config.data.path), exposure, kinds.names)] if exposure else [rows]
    return pa.concat_tables([part.cast(kinds) for part in parts])


def _link(source: Path, target: Path, without: set[str]) -> None:
    """The files of a folder under another, in the same memory where the file system can."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True)
        elif path.relative_to(source).as_posix() not in without:
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)
