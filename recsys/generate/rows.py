"""The impressions of a day, a chunk at a time: who is shown what when, and whether they click.

Memory: a chunk, and of all items of the day 16 bytes each (some 60 while the day begins).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.config_generate import Generate
from recsys.generate import world
from recsys.generate.world import DEVICES, WEIGHTS, Doubles, Ids

CHUNK = 1 << 16
"""Impressions made at a time, from a random stream of their own; a row group of the file."""
DAY = 86400
"""Seconds."""


@dataclass(frozen=True, eq=False)
class Shelf:
    """The items of a day in order of topic, to be drawn by popularity from one topic or from all."""

    items: Ids
    """[I]"""
    cumulative: Doubles
    """[I] sums of popularity."""
    bounds: Doubles
    """[topics + 1] the sums at which each topic begins, and the last."""

    @classmethod
    def of(cls, day: int, config: Generate) -> "Shelf":
        """Of all items that have appeared by a day."""
        items = np.arange(config.items + config.new_items * day)
        topic = world.topics(items, config)
        items = items[np.argsort(topic, kind="stable")]
        cumulative = np.cumsum(world.popularity(items, day, config))
        ends = np.cumsum(np.bincount(topic, minlength=config.topics))
        return cls(items, cumulative, np.append(0.0, cumulative)[np.append(0, ends)])

    def draw(self, low: Doubles, high: Doubles, draws: Doubles) -> Ids:
        """[n] items whose sums lie between `low` and `high`, by numbers in [0, 1)."""
        place = np.searchsorted(self.cumulative, low + draws * (high - low), side="right")
        return self.items[np.minimum(place, len(self.items) - 1)]


def impressions(day: int, config: Generate) -> Iterator[tuple[pa.Table, Doubles]]:
    """Chunks of a day in order of time: user_id, item_id, timestamp, clicked, device; and each row's chance [n]."""
    shelf = Shelf.of(day, config)
    chunks = -(-config.rows_a_day // CHUNK)
    bounds = np.arange(chunks + 1) * config.rows_a_day // chunks
    for k, rows in enumerate(np.diff(bounds)):
        yield _chunk(shelf, day, np.random.default_rng([config.seed, day, k]), int(rows), (k, chunks), config)


def _chunk(
    shelf: Shelf, day: int, random: np.random.Generator, rows: int, part: tuple[int, int], config: Generate
) -> tuple[pa.Table, Doubles]:
    """The `part` = (k, chunks)-th stretch of the day."""
    users = world.active(random.random(rows), config)
    own = world.interests(users, day, config)[np.arange(rows), random.integers(0, len(WEIGHTS), rows)]
    targeted = random.random(rows) < config.targeted
    low = np.where(targeted, shelf.bounds[own], 0.0)
    high = np.where(targeted, shelf.bounds[own + 1], shelf.bounds[-1])
    items = shelf.draw(low, high, random.random(rows))
    device = random.choice(len(DEVICES), rows, p=[0.7, 0.2, 0.1])
    seconds = np.sort((part[0] + random.random(rows)) / part[1] * DAY).astype(np.int64)
    chance = world.chance(users, items, device, day, config)
    clicked = (random.random(rows) < chance).astype(np.int8)
    columns = {
        "user_id": users,
        "item_id": items,
        "timestamp": config.start + day * DAY + seconds,
        "clicked": clicked,
        "device": pa.DictionaryArray.from_arrays(pa.array(device.astype(np.int8)), pa.array(DEVICES)),
    }
    return pa.table(columns), chance
