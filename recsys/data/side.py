"""User and item features, encoded once and gathered by row for each batch."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Feature
from recsys.data import parquet
from recsys.data.ids import IdMap, whole
from recsys.data.jagged import Jagged
from recsys.storage import Location


@dataclass(frozen=True)
class Scaler:
    """Standardises one dense column: (x - mean) / std, after an optional signed log. A null becomes the mean, 0."""

    mean: float
    std: float
    log: bool

    @classmethod
    def fit(cls, values: np.ndarray, counts: np.ndarray, log: bool) -> "Scaler":
        """Mean and deviation of `values` [n] float64 (NaN where missing), each seen `counts` [n] times in training."""
        moments = Moments.of(values, counts, log)
        return moments.scaler(log)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[n] float64 with NaN for missing -> [n] float32."""
        scaled = (_squash(values, self.log) - self.mean) / self.std
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


@dataclass(frozen=True)
class Moments:
    """Moments that add up over row groups, so that a scaler can be fitted in a stream.

    Deviations are kept about each part's own mean: plain sums of squares lose the spread of large numbers, such as
    seconds since 1970.
    """

    count: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    """Sum of squared distances from the mean."""

    @classmethod
    def of(cls, values: np.ndarray, counts: np.ndarray, log: bool) -> "Moments":
        """Moments of `values` [n], missing (NaN) ones left out."""
        x = _squash(values, log)
        seen = ~np.isnan(x)
        x, n = x[seen], counts[seen]
        count = float(n.sum())
        mean = float((n * x).sum()) / max(count, 1.0)
        return cls(count, mean, float((n * (x - mean) ** 2).sum()))

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / max(count, 1.0)
        between = apart * apart * self.count * share
        return Moments(count, self.mean + apart * share, self.deviation + other.deviation + between)

    def scaler(self, log: bool) -> Scaler:
        """The scaler; a constant column keeps std 1."""
        std = float((self.deviation / max(self.count, 1.0)) ** 0.5)
        return Scaler(self.mean, std if std > 1e-12 * abs(self.mean) else 1.0, log)


def _squash(values: np.ndarray, log: bool) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values)) if log else values


def floats(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A numeric Arrow column as [n] float64, null as NaN; integers beyond 2^53 are rounded."""
    return whole(column).cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(zero_copy_only=False)


def decoded(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The column without dictionaries: those of two row groups may differ, which most of Arrow's functions refuse."""
    return pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column


def lists(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """An Arrow list column as its flat values and [n + 1] int64 offsets; a null list is empty."""
    column = whole(column)
    if not column.null_count:
        offsets = column.offsets.to_numpy().astype(np.int64)
        return column.flatten(), offsets - offsets[0]
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return column.flatten(), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@dataclass(frozen=True)
class SideTable:
    """Encoded features of all users or all items, known or new; row 0 stands for an entity without a record.

    Attributes:
        index: raw id -> row here (not the embedding row).
        single: [n + 1, S] int64 table rows of the single-valued features.
        multi: one Jagged of table rows for each multi-valued feature.
        dense: [n + 1, F] float32.
    """

    index: IdMap
    single: np.ndarray
    multi: list[Jagged]
    dense: np.ndarray


def read_side(path: Location, key: str, features: list[Feature]) -> pa.Table:
    """The id and feature columns of users.parquet or items.parquet, dictionaries decoded."""
    table = parquet.table_of(path, list(dict.fromkeys([key] + [feature.name for feature in features])))
    return pa.table([decoded(column) for column in table], names=table.column_names)


def encode_side(
    table: pa.Table, key: str, features: list[Feature], maps: dict[str, IdMap], scalers: dict[str, Scaler]
) -> SideTable:
    """Encode every row of a side table by fitted maps and scalers."""
    ids = whole(table[key])
    n = len(ids)
    single = [maps[f.name].rows(table[f.name]) for f in features if f.kind == "category"]
    dense = [scalers[f.name](floats(table[f.name])) for f in features if f.kind == "dense"]
    multi = []
    for feature in features:
        if feature.kind == "multi":
            values, offsets = lists(table[feature.name])
            multi.append(Jagged(maps[feature.name].rows(values), np.concatenate([[0], offsets])))
    return SideTable(
        # Insertion order, so that the row here is the position in the file plus one.
        IdMap(key, ids, np.zeros(n, dtype=np.int64), n + 1),
        np.pad(np.stack(single, 1) if single else np.zeros((n, 0), dtype=np.int64), ((1, 0), (0, 0))),
        multi,
        np.pad(np.stack(dense, 1) if dense else np.zeros((n, 0), dtype=np.float32), ((1, 0), (0, 0))),
    )
