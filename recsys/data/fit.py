"""Fit id maps and scalers to the training rows alone, so that nothing later can leak into them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Config, Feature
from recsys.data import content
from recsys.data.encode import ITEM, USER, Encoder, context_features
from recsys.data.ids import IdMap
from recsys.data.side import Scaler, floats, read_side
from recsys.data.statistics import Counter, of_training_rows


def fit(config: Config) -> Encoder:
    """Ids, categories and dense moments as split=train shows them, which is read once (see `recsys.data.statistics`).

    Side features count once for each training row of their user or item; users and items without a training row are
    not counted.

    Raises:
        InputError: a declared capacity is too small, or a file of content vectors is not one.
    """
    root = Path(config.data.path)
    context = context_features(config)
    counted = dict.fromkeys([USER, ITEM, *(f.name for f in context if f.kind != "dense")])
    seen = of_training_rows(root, list(counted), {f.name: f.log for f in context if f.kind == "dense"})
    counters, moments = seen.counters, seen.moments
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
