"""Feedback rows and the items that they speak for: those of new items, and draws of warm items' that stand for such.

Legend: I items, R rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config_prompt import Summary
from recsys.data.encode import ITEM, USER, Encoder
from recsys.data.schema import split_files
from recsys.data.splits import keys_at
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.prompt.values import Doubles, Values, read

_ITEMS, _ROWS = 0, 1
"""Salts of the two draws."""
_SLACK, _MORE = 1.5, 20
"""Rows are first kept by their keys alone, so many times those wanted and so many more, so that hardly any item ends
with fewer."""

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Feedback:
    """R rows of some files in the order of their row ids, which number the files' rows: 32 bytes a row of these R."""

    files: list[Path]
    row_id: Codes
    item: Codes
    """[R] which of I items, 0 to I - 1."""
    rank: Codes
    """[R] the row's place among its item's, from 0."""
    value: Doubles
    """[R] less the user's mean (`recsys.prompt.values`); as it is where these are not known."""


def of_new(encoder: Encoder, known: Values | None, place: Codes, files: list[Path], most: int) -> Feedback:
    """Up to `most` rows of each new item: the first by `rank` where there is one, else the newest.

    known: None where nobody asks what a row is worth.
    place: by row of the item map, which of the I items.
    files: Parquet with the columns of a split; with `rank` (from 1, as in split=feedback) rows are taken by it, else by
        their timestamps, rows of one second by a key of their place.

    Raises:
        InputError: a file that cannot be read or lacks a column, or a value that is not finite.
    """
    found: list[tuple[NDArray[np.generic], ...]] = []
    ranked = all("rank" in pq.read_schema(file).names for file in files)
    by = "rank" if ranked else "timestamp"
    for first, table, value in _groups(encoder, known, files, [by]):
        row_id = np.arange(first, first + table.num_rows)
        age = table[by].to_numpy().astype(np.int64) * (1 if ranked else -1)
        kept = age <= most if ranked else np.ones(len(age), bool)
        item = place[encoder.maps[ITEM].rows(table[ITEM])]
        found.append((row_id[kept], item[kept], age[kept], value[kept]))
    row_id, item, age, value = (np.concatenate(column) for column in zip(*found, strict=True))
    rank = _ranks(item, age, keys_at(row_id, 0, _ROWS))
    newest = rank < most
    return Feedback(files, row_id[newest], item[newest], rank[newest], value[newest])


def of_warm(encoder: Encoder, known: Values, options: Summary, rows: int) -> tuple[Codes, Feedback]:
    """A seeded draw of `rows` training rows of each of up to `options.items` warm items, fewer where an item has fewer.

    Streams the log once. Returns the items too, [I] rows of the item map.

    Raises:
        InputError: a file that cannot be read, a value that is not finite, or fewer than two such items.
    """
    counts = np.append(0, encoder.maps[ITEM].counts)
    items = np.flatnonzero(counts > 1)
    if len(items) < 2:
        raise InputError(
            f"{encoder.config.data.path}: expected items with two or more training rows, to learn from them what first "
            f"rows tell; found {len(items)}"
        )
    items = np.sort(items[np.argsort(keys_at(items, options.seed, _ITEMS), kind="stable")[: options.items]])
    files = split_files(Path(encoder.config.data.path), "train")
    share = np.zeros(len(counts))
    share[items] = (_SLACK * rows + _MORE) / counts[items]
    found: list[tuple[NDArray[np.generic], ...]] = []
    for first, table, value in _groups(encoder, known, files, []):
        row_id, item = np.arange(first, first + table.num_rows), encoder.maps[ITEM].rows(table[ITEM])
        key = keys_at(row_id, options.seed, _ROWS)
        kept = (key >> np.uint64(11)).astype(np.float64) < share[item] * 2.0**53
        found.append((row_id[kept], item[kept], key[kept], value[kept]))
    row_id, item, key, value = (np.concatenate(column) for column in zip(*found, strict=True))
    rank = _ranks(item, key)
    kept = np.flatnonzero(rank < rows)
    return items, Feedback(files, row_id[kept], np.searchsorted(items, item[kept]), rank[kept], value[kept])


def _groups(
    encoder: Encoder, known: Values | None, files: list[Path], more: list[str]
) -> Iterator[tuple[int, pa.Table, Doubles]]:
    """Row groups with the row id of their first row and their values, less the users' means where these are known."""
    first = 0
    for file in files:
        for group, table in read_groups(file, [ITEM, USER, "value", *more]):
            found = read(table["value"], f"{file}: row group {group}")
            yield first, table, known.relative(found, encoder.users.index.rows(table[USER])) if known else found
            first += table.num_rows


def _ranks(item: Codes, *by: NDArray[np.generic]) -> Codes:
    """[n] each row's place, from 0, among the rows of its item, by the first of the columns and then the others."""
    order = np.lexsort((*by[::-1], item))
    lying = item[order]
    starts = np.flatnonzero(np.r_[True, lying[1:] != lying[:-1]][: len(lying)])
    ranks = np.empty(len(item), np.int64)
    ranks[order] = np.arange(len(item)) - np.repeat(starts, np.diff(np.r_[starts, len(item)]))
    return ranks
