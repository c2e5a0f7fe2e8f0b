"""Rows for new items from their first feedback, scores by them, and on request a delta into the run's tables.

<run>/prompt/<name>/n=<exposure>/rows.parquet     the new items' rows
<run>/prompt/<name>/n=<exposure>/scores.parquet   the run's scores, those of these items by their rows
<run>/prompt/live/rows.parquet                    rows made from a file of feedback
"""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys import runs
from recsys.coldrows.frozen import Frozen, require_new
from recsys.coldrows.learned import About, Learned
from recsys.coldrows.publish import publish
from recsys.coldrows.scores import score, scored
from recsys.config import Config
from recsys.data.encode import ITEM
from recsys.data.schema import read_info, split_files
from recsys.data.side import decoded
from recsys.distributed import Ranks, of_first, on_first
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.floor import kept
from recsys.prompt.reading import read, tune
from recsys.tables import checkpoint
from recsys.tables.delta import Delta

SOURCE = "prompt"
"""What deltas say of the rows."""
SCORES = "scores.parquet"


def prompt(config: Config, exposure: int, ranks: Ranks) -> Path:
    """Score the test rows after `exposure` kept rows of each new item; returns the folder. Collective.

    What has been done for the same settings and base is left out.

    Raises:
        InputError: the run is not of this config and dataset, has no checkpoint or no scores of its test rows, or the
            dataset keeps fewer rows of new items.
    """
    dataset = Path(config.data.path)
    key, base = of_first(ranks, lambda: _begin(config, exposure))
    folder = _folder(config) / ("finetuned" if config.prompt.summary.finetune else "summary") / f"n={exposure}"
    items = kept.new_items(dataset)
    frozen = None
    rows = of_first(ranks, lambda: Learned.found(folder, key))
    if rows is None:
        frozen = Frozen.load_locked(config, items, ranks)
        rows = _rows(frozen, split_files(dataset, "feedback") if exposure else [], exposure, items, key, base)
        on_first(ranks, lambda: rows.save(folder))
    if not of_first(ranks, lambda: scored(folder / SCORES, key)):
        score(frozen or Frozen.load_locked(config, items, ranks), rows, folder / SCORES, exposure)
    return folder


def answer(config: Config, source: Path, ranks: Ranks) -> tuple[Path, Delta | None]:
    """Read the rows of the items in `source`, a Parquet file with the columns of a split, and publish them.

    Returns the folder of the rows, and the delta; None: the tables hold these rows already. Collective.

    Raises:
        InputError: the file is not as it should be, or names an item that training rows have taught its vector.
    """
    key, base = of_first(ranks, lambda: _begin(config, 0, source))
    folder = _folder(config) / "live"
    items = of_first(ranks, lambda: new_items_of(config, source))
    rows = of_first(ranks, lambda: Learned.found(folder, key))
    if rows is None:
        rows = _rows(Frozen.load_locked(config, items, ranks), [source], config.prompt.summary.rows, items, key, base)
        on_first(ranks, lambda: rows.save(folder))
    brought: list[Delta | None] = [None]

    def bring_in() -> None:
        brought[0] = publish(config, rows, folder, SOURCE)

    on_first(ranks, bring_in)
    return folder, brought[0]


def _folder(config: Config) -> Path:
    return Path(config.run) / "prompt"


def _begin(config: Config, exposure: int, source: Path | None = None) -> tuple[str, str]:
    """Look at what must be there; a digest of all that the rows depend on, and their base."""
    runs.bring_up(config)
    kept.check(Path(config.data.path), exposure)
    base = checkpoint.version_of(checkpoint.best(Path(config.run) / "checkpoints")).base
    told = [
        exposure,
        _digest(source) if source else "",
        asdict(config.prompt.summary),
        base,
        read_info(config.data.path).fingerprint,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest(), base


def _digest(source: Path) -> str:
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{source}: no feedback: {error.strerror}") from None


def new_items_of(config: Config, source: Path) -> pa.Array:
    """The items of a file of feedback, in order of their ids.

    Raises:
        InputError: the file cannot be read, has no row, or names an item that training rows have taught its vector.
    """
    parts = [decoded(table[ITEM]).combine_chunks().unique().drop_null() for _, table in read_groups(source, [ITEM])]
    if not any(len(part) for part in parts):
        raise InputError(f"{source}: expected rows of new items, found none")
    items = pa.concat_arrays(parts).unique()
    items = items.take(pc.sort_indices(items))
    require_new(config, items, source)
    return items


def _rows(frozen: Frozen, files: list[Path], exposure: int, items: pa.Array, key: str, base: str) -> Learned:
    """Rows of the K items. Collective."""
    started, config = time.perf_counter(), frozen.encoder.config
    if not files:
        about = About(key=key, base=base, found={"items": 0}, seconds=0.0)
        return Learned(items, frozen.unknown().repeat(frozen.count, 1).cpu(), about)
    reading = read(frozen, files, exposure, base)
    rows, found = reading.prior.start, reading.told() | {"gradient_steps": 0}
    if config.prompt.summary.finetune:
        tuned, told = tune(frozen, reading)
        rows, found = tuned.rows, found | told
    about = About(key=key, base=base, found=found, seconds=round(time.perf_counter() - started, 1))
    return Learned(items, rows.cpu(), about)
