"""Which rows of feedback an item's row was made from: read off by a prompt, or by the lifecycle's policy."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.coldrows.learned import NAME, About
from recsys.config_lifecycle import Stage
from recsys.explain import lookup
from recsys.lifecycle.blend import weights

_COLUMNS = ("user_id", "timestamp", "label", "rank")
_MAKERS = {
    "prompt": "no rows read off first feedback: tools.prompt reads them",
    "lifecycle": "no rows by the lifecycle's policy: tools.lifecycle makes them",
}
"""Folders of a run whose rows are made from feedback, and what is said where there are none."""


def told(dataset: Path, run: Path, item: pa.Scalar) -> Iterator[str]:
    """Of every row that the item was given from feedback: its source, and the rows that it was made from.

    Raises:
        InputError: a file that is damaged.
    """
    given = lookup.numbered(dataset, "feedback", item, _COLUMNS)
    for maker, absent in _MAKERS.items():
        files = sorted((run / maker).glob(f"**/{NAME}"))
        walked = sorted((run / maker).glob("*/replay/feedback.parquet"))
        if not files and not walked:
            yield f"{run / maker}: {absent}"
        for path in files:
            yield from _made(run, path, item, given)
        for path in walked:
            yield from _walked(run, path, item)


def _made(run: Path, path: Path, item: pa.Scalar, given: pa.Table) -> Iterator[str]:
    stage = path.parent.relative_to(run)
    if not lookup.rows(path, item, ["item_id"]).num_rows:
        yield f"{stage}: not among its items"
        return
    exposure = path.parent.name.removeprefix("n=")
    if not exposure.isdigit():
        yield f"{stage}, {lookup.written(path)}: read off a file of feedback, which is not kept"
        return
    kept = given.filter(pc.less_equal(given["rank"], int(exposure))) if given.num_rows else given
    yield f"{stage}, {lookup.written(path)}: {_source(path, kept.num_rows)} {kept.num_rows} rows"
    yield from _rows(kept)


def _source(path: Path, rows: int) -> str:
    """How a row was made from so many rows of feedback; the lifecycle's is a blend of the stages of its time."""
    found = About.read(path).found
    if "stages" not in found:
        return "read off"
    stages = [Stage(**stage) for stage in found["stages"]]
    shares = zip(stages, weights(stages, np.array([rows]))[0], strict=True)
    return " and ".join(f"{share:.0%} {stage.source}" for stage, share in shares if share) + " from"


def _walked(run: Path, path: Path, item: pa.Scalar) -> Iterator[str]:
    """A replay gives an item its row anew from more and more of its test rows."""
    stage, rows = path.parent.relative_to(run), lookup.rows(path, item, _COLUMNS)
    if not rows.num_rows:
        yield f"{stage}: not among its items"
        return
    yield f"{stage}, {lookup.written(path)}: walked along the first {rows.num_rows} test rows"
    yield from _rows(rows)


def _rows(rows: pa.Table) -> Iterator[str]:
    for one in rows.sort_by("rank").to_pylist()[: lookup.SHOWN] if rows.num_rows else ():
        yield f"  user {one['user_id']}: label {one['label']}, second {one['timestamp']}"
    if rows.num_rows > lookup.SHOWN:
        yield f"  and {rows.num_rows - lookup.SHOWN} more"
