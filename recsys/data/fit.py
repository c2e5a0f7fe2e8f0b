"""Fit id maps and scalers in one streamed pass over the training rows, so that nothing later can leak into them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Config, Feature
from recsys.data import content
from recsys.data.encode import ITEM, USER, Encoder, context_features
from recsys.data.ids import IdMap
from recsys.data.schema import is_list, split_files
from recsys.data.side import Moments, Scaler, decoded, floats, read_side

_MERGE_EVERY = 64


class Counter:
    """Distinct values of a column and how often each was seen; memory grows with the distinct values only."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []

    def add(self, values: pa.Array | pa.ChunkedArray, counts: np.ndarray | None = None) -> None:
        """Count values, each once or `counts` [n] times; nulls are not counted."""
        values = decoded(values)
        if counts is None:
            counted = pc.value_counts(values.drop_null())
            self._parts.append(pa.table({"value": counted.field("values"), "count": counted.field("counts")}))
        else:
            kept = values.is_valid()
            self._parts.append(pa.table({"value": values.filter(kept), "count": pa.array(counts).filter(kept)}))
        if len(self._parts) > _MERGE_EVERY:
            self._parts = [self._merged()]

    def _merged(self) -> pa.Table:
        merged = pa.concat_tables(self._parts).group_by("value").aggregate([("count", "sum")])
        return merged.rename_columns(["value", "count"])

    def result(self) -> tuple[pa.Array, np.ndarray]:
        """[n] distinct values and their [n] int64 counts, in no particular order."""
        merged = self._merged()
        return merged["value"].combine_chunks(), merged["count"].to_numpy()


def fit(config: Config) -> Encoder:
    """One pass over split=train: ids, categories and dense moments as the training rows show them.

    Side features count once for each training row of their user or item; users and items without a training row are
    not counted.

    Raises:
        InputError: a declared capacity is too small, or a file of content vectors is not one.
    """
    root = Path(config.data.path)
    context = context_features(config)
    counters = {name: Counter() for name in (USER, ITEM, *(f.name for f in context if f.kind != "dense"))}
    moments = {f.name: Moments() for f in context if f.kind == "dense"}
    for path in split_files(root, "train"):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[*counters, *moments])
                for feature in context:
                    if feature.kind == "dense":
                        values = floats(table[feature.name])
                        moments[feature.name] += Moments.of(values, np.ones(len(values)), feature.log)
                for name, counter in counters.items():
                    column = table[name]
                    counter.add(pc.list_flatten(column) if is_list(column.type) else column)
    maps = {ITEM: _map(config, ITEM, config.item_capacity, counters[ITEM])}
    for feature in context:
        if feature.kind != "dense":
            maps[feature.name] = _map(config, feature.name, feature.capacity, counters[feature.name])
    scalers = {f.name: moments[f.name].scaler(f.log) for f in context if f.kind == "dense"}
    for owner, key in (("user", USER), ("item", ITEM)):
        features = [f for f in config.features if f.of == owner and f.name not in (USER, ITEM)]
        _fit_side(config, read_side(root / f"{owner}s.parquet", key, features), features, counters[key], maps, scalers)
    held, widths = content.fit(config, maps[ITEM].ids.type)
    return Encoder(config, maps | held, scalers, widths=widths)


def _map(config: Config, name: str, capacity: int, counter: Counter) -> IdMap:
    ids, counts = counter.result()
    return IdMap.fit(name, ids, counts, capacity, config.model.spare)


def _fit_side(
    config: Config,
    table: pa.Table,
    features: list[Feature],
    seen: Counter,
    maps: dict[str, IdMap],
    scalers: dict[str, Scaler],
) -> None:
    ids, counts = seen.result()
    id_map = IdMap("", ids, counts, len(ids) + 1)
    rows = id_map.rows(table[0])
    table, counts = table.filter(pa.array(rows > 0)), counts[rows[rows > 0] - 1]
    for feature in features:
        column = table[feature.name].combine_chunks()
        if feature.kind == "dense":
            scalers[feature.name] = Scaler.fit(floats(column), counts, feature.log)
            continue
        counter = Counter()
        if feature.kind == "multi":
            counter.add(column.flatten(), counts[pc.list_parent_indices(column).to_numpy()])
        else:
            counter.add(column, counts)
        maps[feature.name] = _map(config, feature.name, feature.capacity, counter)
