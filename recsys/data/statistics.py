"""Statistics of the training rows: distinct values of columns and how often each was seen, moments of dense ones.

One streamed pass, whose findings are kept beside the rows (`recsys.data.kept`).
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.data import kept, parquet
from recsys.data.schema import is_list, split_files
from recsys.data.side import Moments, decoded, floats
from recsys.errors import InputError

COUNTED_BY = 1
"""Raised whenever the same rows would be counted otherwise, or written down otherwise."""
_MERGE_EVERY = 64
_MOMENTS = "moments.json"


class Counter:
    """Distinct values of a column and how often each was seen; memory grows with the distinct values only."""

    def __init__(self, parts: Iterable[pa.Table] = ()) -> None:
        self._parts = list(parts)

    def add(self, values: pa.Array | pa.ChunkedArray, counts: np.ndarray | None = None) -> None:
        """Count values, each once or `counts` [n] times; nulls are not counted."""
        values = decoded(values)
        if counts is None:
            counted = pc.value_counts(values.drop_null())
            self._parts.append(pa.table({"value": counted.field("values"), "count": counted.field("counts")}))
        else:
            present = values.is_valid()
            self._parts.append(pa.table({"value": values.filter(present), "count": pa.array(counts).filter(present)}))
        if len(self._parts) > _MERGE_EVERY:
            self._parts = [self.table()]

    def table(self) -> pa.Table:
        """value, count: each distinct value once, in no particular order."""
        merged = pa.concat_tables(self._parts).group_by("value").aggregate([("count", "sum")])
        return merged.rename_columns(["value", "count"])

    def result(self) -> tuple[pa.Array, np.ndarray]:
        """[n] distinct values and their [n] int64 counts, in no particular order."""
        merged = self.table()
        return merged["value"].combine_chunks(), merged["count"].to_numpy()


@dataclass(frozen=True)
class Statistics:
    """Of columns by name."""

    counters: dict[str, Counter]
    moments: dict[str, Moments]

    def save(self, folder: Path) -> None:
        """Write a Parquet file a counter, and the moments as JSON."""
        folder.mkdir()
        for name, counter in self.counters.items():
            pq.write_table(counter.table(), folder / f"{name}.parquet")
        (folder / _MOMENTS).write_text(json.dumps({name: asdict(of) for name, of in self.moments.items()}))

    @classmethod
    def load(cls, folder: Path, counted: Iterable[str]) -> "Statistics":
        """What was saved."""
        counters = {name: Counter([pq.read_table(folder / f"{name}.parquet")]) for name in counted}
        moments = json.loads((folder / _MOMENTS).read_text())
        return cls(counters, {name: Moments(**told) for name, told in moments.items()})


def of_training_rows(config: Config, counted: list[str], dense: dict[str, bool]) -> Statistics:
    """Of split=train of the config's dataset: counts of the columns `counted` (of lists, their
    values), moments of `dense` (True: of logs).
    """
    files = split_files(config.data.path, "train")
    where = kept.place(config, "statistics", [COUNTED_BY, counted, dense], files)
    if where.exists():
        with suppress(OSError, pa.ArrowException, ValueError, TypeError):  # damaged: counted anew
            return Statistics.load(where, counted)
        kept.drop(where)
    found = Statistics({name: Counter() for name in counted}, {name: Moments() for name in dense})
    for path in files:
        try:
            with parquet.opened(path) as file:
                for group in range(file.num_row_groups):
                    _add(file.read_row_group(group, columns=[*counted, *dense]), found, dense)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
    kept.keep(where, found.save)
    return found


def _add(table: pa.Table, found: Statistics, dense: dict[str, bool]) -> None:
    for name, log in dense.items():
        values = floats(table[name])
        found.moments[name] += Moments.of(values, np.ones(len(values)), log)
    for name, counter in found.counters.items():
        column = table[name]
        counter.add(pc.list_flatten(column) if is_list(column.type) else column)
