"""Fit id maps and scalers to the training rows alone, so that nothing later can leak into them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import storage
from recsys.config import Config, Feature
from recsys.data import content
from recsys.data.encode import ITEM, USER, Encoder, context_features
from recsys.data.ids import IdMap
from recsys.data.side import Moments, floats, read_side
from recsys.data.statistics import Counter, of_training_rows


@dataclass(frozen=True)
class Counted:
    """What the training rows of a dataset show.

    Attributes:
        ids: of each column that has a table, the distinct values [n] and how many rows named each, [n] int64.
        moments: of each dense column.
    """

    ids: dict[str, tuple[pa.Array, np.ndarray]]
    moments: dict[str, Moments]


def fit(config: Config) -> Encoder:
    """Ids, categories and dense moments as split=train shows them.

    Raises:
        InputError: a declared capacity is too small, or a file of content vectors is not one.
    """
    counted = count(config)
    features = {feature.name: feature for feature in config.features}
    maps = {
        name: IdMap.fit(name, ids, counts, capacity_of(config, name), config.model.spare)
        for name, (ids, counts) in counted.ids.items()
    }
    scalers = {name: moments.scaler(features[name].log) for name, moments in counted.moments.items()}
    held, widths = content.fit(config, maps[ITEM].ids.type)
    return Encoder(config, maps | held, scalers, widths=widths)


def capacity_of(config: Config, name: str) -> int:
    """Rows declared for a column's table; 0: sized by what training shows."""
    return config.item_capacity if name == ITEM else next(f.capacity for f in config.features if f.name == name)


def count(config: Config) -> Counted:
    """Count split=train, which is read once (see `recsys.data.statistics`).

    Side features count once for each training row of their user or item; users and items without a training row are
    not counted.
    """
    root = storage.at(config.data.path)
    context = context_features(config)
    tables = [f.name for f in context if f.kind != "dense"]
    read = list(dict.fromkeys([USER, ITEM, *tables]))
    seen = of_training_rows(config, read, {f.name: f.log for f in context if f.kind == "dense"})
    counted = Counted({name: seen.counters[name].result() for name in (ITEM, *tables)}, dict(seen.moments))
    for owner, key in (("user", USER), ("item", ITEM)):
        features = [f for f in config.features if f.of == owner and f.name not in (USER, ITEM)]
        side = read_side(root / f"{owner}s.parquet", key, features)
        _count_side(side, features, seen.counters[key], counted)
    return counted


def _count_side(table: pa.Table, features: list[Feature], seen: Counter, counted: Counted) -> None:
    ids, counts = seen.result()
    id_map = IdMap("", ids, counts, len(ids) + 1)
    rows = id_map.rows(table[0])
    table, counts = table.filter(pa.array(rows > 0)), counts[rows[rows > 0] - 1]
    for feature in features:
        column = table[feature.name].combine_chunks()
        if feature.kind == "dense":
            counted.moments[feature.name] = Moments.of(floats(column), counts, feature.log)
            continue
        counter = Counter()
        if feature.kind == "multi":
            counter.add(column.flatten(), counts[pc.list_parent_indices(column).to_numpy()])
        else:
            counter.add(column, counts)
        counted.ids[feature.name] = counter.result()
