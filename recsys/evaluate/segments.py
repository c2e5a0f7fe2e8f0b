"""Which rows a metric is reported on, by how often the training split showed the ranker the row's item.

    all                     every row
    warm, cold              items with, and without, a row in split=train
    0 1-4 5-19 20-99 100+   natural buckets of the number of training rows
    n=<k>                   rules `exposure` and `warm-up` only: the held-out items that are scored, after k rows each

    seen=<k>                by impressions: rows of scored new items, by how many test rows of the item came before

Under `exposure` and `warm-up` the buckets hold warm items only (no new item has training rows). Once the judged system
has consumed k > 0 kept rows the new items are no longer without feedback, so `all`, `cold` and the buckets would mean
something else than at n = 0: only `n=<k>`, and `n=<k>/warm` for what the same system does to warm items, are reported
then. That is also why results of several k of one system can stand together in one results.json.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.schema import split_files
from recsys.errors import InputError
from recsys.evaluate import arrivals
from recsys.evaluate.held_out import held_out
from recsys.evaluate.scores import Rows, read_groups
from recsys.storage import Location

SEEN = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Fewest impressions of each bucket of `seen`, which goes up to the next."""
BUCKETS: tuple[tuple[str, int, float], ...] = (
    ("0", 0, 0),
    ("1-4", 1, 4),
    ("5-19", 5, 19),
    ("20-99", 20, 99),
    ("100+", 100, float("inf")),
)
"""(name, fewest, most) training rows of a bucket's items."""


def training_counts(dataset: Location, items: pa.Array) -> NDArray[np.int64]:
    """[len(items)] rows in split=train of each item; streams the item_id column and holds one row group."""
    counts = np.zeros(len(items), np.int64)
    for file in split_files(dataset, "train"):
        for _, table in read_groups(file, ["item_id"]):
            if table.num_rows:
                found = table["item_id"].combine_chunks().dictionary_encode()
                place = pc.index_in(found.dictionary.cast(items.type), items)
                known = pc.is_valid(place).to_numpy(zero_copy_only=False)
                rows = np.bincount(found.indices.to_numpy(), minlength=len(found.dictionary))
                counts[place.filter(pc.is_valid(place)).to_numpy()] += rows[known]
    return counts


def scored_items(dataset: Location, items: pa.Array) -> NDArray[np.bool_]:
    """[len(items)] whether held_out.parquet lists the item as one whose rows are scored.

    Raises:
        InputError: see `held_out`.
    """
    scored = np.zeros(len(items), bool)
    for table in held_out(dataset, items.type, ("scored",)):
        held = table.filter(table["scored"])["item_id"]
        scored |= pc.is_in(items, value_set=held.combine_chunks()).to_numpy(zero_copy_only=False)
    return scored


def by_impressions(dataset: Location, rows: Rows, scored: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Row masks [N] of the scored new items' test rows by what had been seen of the item; `seen` is all of them.

    Raises:
        InputError: no such rows (see `recsys.evaluate.arrivals.read`).
    """
    log = arrivals.read(dataset, rows.items.filter(pa.array(scored)))
    seen = np.full(len(rows.item), -1)
    seen[log.row_id] = log.seen
    ends = [*SEEN[1:], np.inf]
    masks = {"seen": seen >= 0}
    return masks | {f"seen={k}": (seen >= k) & (seen < end) for k, end in zip(SEEN, ends, strict=True)}


def segments(
    rows: Rows, counts: NDArray[np.int64], scored: NDArray[np.bool_] | None, exposure: int = 0
) -> dict[str, NDArray[np.bool_]]:
    """Row masks [N] by segment name, in the order they are printed.

    counts: [items] training rows. scored: [items] under rules that keep feedback (`scored_items`), else None.

    Raises:
        InputError: a negative exposure, or one above 0 on a split that keeps no rows back.
    """
    if exposure < 0:
        raise InputError(f"exposure={exposure}: expected a number of kept rows, 0 or more")
    if exposure and scored is None:
        raise InputError(
            f"exposure={exposure}: expected a dataset of the rule 'exposure' or 'warm-up', which keep rows"
        )
    warm = counts > 0
    if exposure and scored is not None:
        by_item = {f"n={exposure}": scored, f"n={exposure}/warm": warm}
    else:
        by_item = {"all": np.ones(len(counts), bool), "warm": warm, "cold": ~warm}
        if scored is not None:
            by_item["n=0"] = scored
        named = BUCKETS if scored is None else BUCKETS[1:]
        by_item |= {name: (counts >= fewest) & (counts <= most) for name, fewest, most in named}
    return {name: mask[rows.item] for name, mask in by_item.items()}
