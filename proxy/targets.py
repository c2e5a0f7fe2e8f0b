"""What stage 1 aligns to: the ID vectors of warm items, straight from the run's best checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.config import Config
from recsys.config_proxy import Align
from recsys.data.encode import ITEM
from recsys.data.ids import IdMap
from recsys.data.splits import keys_at
from recsys.errors import InputError
from recsys.evaluate.held_out import held_out
from recsys.evaluate.ties import id_keys
from recsys.tables import checkpoint
from recsys.tables.parts import tables_of
from recsys.tables.stored import StoredTensor

TRAIN, VALID, TEST, OUT = 0, 1, 2, 3
"""What a target is for: to learn from, to stop early on, to report, nothing."""
_SALT, _FOLD_SALT, _DRAW_SALT = 5, 6, 7


@dataclass(frozen=True)
class Targets:
    """N warm items and their places in the ID space; 4 D + 24 bytes an item.

    Attributes:
        ids: [N] raw ids, in the order of their rows.
        vectors: [N, D] float32, the items' rows of the table as they are.
        updates: [N] int64 training rows of each.
        part: [N] int8, TRAIN, VALID, TEST or OUT.
        fold: [N] int8, the fold of a target that is learned from; -1 of the others, and of all where there are none.
        base: the version of the tables that they were read from.
    """

    ids: pa.Array
    vectors: Tensor
    updates: NDArray[np.int64]
    part: NDArray[np.int8]
    fold: NDArray[np.int8]
    base: str

    @property
    def unit(self) -> Tensor:
        """[N, D] float32 vectors of length 1: a length tells an item's popularity, not what it is."""
        return torch.nn.functional.normalize(self.vectors)

    def take(self, at: NDArray[np.int64]) -> "Targets":
        """The targets at these positions, in this order."""
        places = torch.from_numpy(at)
        return replace(
            self,
            ids=self.ids.take(pa.array(at)),
            vectors=self.vectors[places],
            updates=self.updates[at],
            part=self.part[at],
            fold=self.fold[at],
        )

    def without(self, fold: int | None) -> "Targets":
        """The same, of which nothing is learned from those of `fold`."""
        return self if fold is None else replace(self, part=np.where(self.fold == fold, np.int8(OUT), self.part))

    def folds_of(self, ids: pa.Array) -> NDArray[np.int8]:
        """[n] the fold of each of these items, -1 of one that is not learned from."""
        return np.append(self.fold, np.int8(-1))[self.find(ids)]

    def find(self, ids: pa.Array) -> NDArray[np.int64]:
        """[n] the position of each of these items among the targets, -1 of one that is none."""
        found: NDArray[np.int64] = pc.index_in(ids.cast(self.ids.type), self.ids).fill_null(-1).to_numpy()
        return found

    def has(self, ids: pa.Array) -> NDArray[np.bool_]:
        """[n] whether each of these items is a target."""
        return self.find(ids) >= 0

    def of(self, part: int) -> NDArray[np.int64]:
        """Positions of the targets that are for `part`."""
        return np.flatnonzero(self.part == part)

    def require(self, options: Align) -> None:
        """Every part has something in it.

        Raises:
            InputError: fewer than two items to learn from, or none for another part.
        """
        for part, name, least in ((TRAIN, "training", 2), (VALID, "valid_share", 1), (TEST, "test_share", 1)):
            if len(self.of(part)) < least:
                raise InputError(
                    f"proxy.align: {len(self.ids)} items with tau={options.tau} training rows and content leave too "
                    f"few for {name}: expected a smaller tau, or other shares"
                )


def read(config: Config) -> Targets:
    """The items with at least tau training rows, divided by `proxy.align`. Items that the split holds out are none.

    Raises:
        InputError: no trained run, a damaged checkpoint, a vector that is zero or not finite, or too few items: none
            with tau training rows, or none left for one of the three parts.
    """
    run, options = Path(config.run), config.proxy.align
    source = checkpoint.best(run / "checkpoints")
    table = next(table for table in tables_of(run, source) if table.name == ITEM)
    ids, rows = _warm(table.ids, Path(config.data.path), options.tau)
    if not len(rows):
        most = int(table.ids.counts.max(initial=0))
        raise InputError(
            f"{run}: no item has proxy.align.tau={options.tau} training rows or more; the most that any has is {most}"
        )
    stored = StoredTensor(source, table.tensor)
    stored.check(range(table.rows))
    vectors = stored.take(torch.from_numpy(rows)).float()
    bad = ~(vectors.isfinite().all(dim=1) & (vectors != 0).any(dim=1)).numpy()
    if bad.any():
        raise InputError(
            f"{source}: table {ITEM}: item {ids[int(np.argmax(bad))].as_py()!r}: expected a vector with a direction, "
            "found zeros or values that are not finite"
        )
    counts, base = table.ids.counts[rows - 1], checkpoint.version_of(source).base
    part = divide(ids, options)
    targets = Targets(ids, vectors, counts, part, np.where(part == TRAIN, folds(ids, options), np.int8(-1)), base)
    targets.require(options)
    return targets


def divide(ids: pa.Array, options: Align) -> NDArray[np.int8]:
    """[N] int8: the part of each item, drawn by its id, so that it keeps its part when others come and go."""
    draw = keys_at(id_keys(ids), options.seed, _SALT) / 2.0**64
    edges = [options.valid_share, options.valid_share + options.test_share]
    return np.array([VALID, TEST, TRAIN], np.int8)[np.searchsorted(edges, draw, side="right")]


def folds(ids: pa.Array, options: Align) -> NDArray[np.int8]:
    """[N] int8: the fold of each item if it is learned from, drawn like its part; -1 where there are none."""
    if not options.folds:
        return np.full(len(ids), -1, np.int8)
    return (keys_at(id_keys(ids), options.seed, _FOLD_SALT) % np.uint64(options.folds)).astype(np.int8)


def drawn(ids: pa.Array, options: Align) -> NDArray[np.int64]:
    """[N] int64: the positions of the items in an order drawn by their ids."""
    return np.argsort(keys_at(id_keys(ids), options.seed, _DRAW_SALT), kind="stable")


def _warm(items: IdMap, dataset: Path, tau: int) -> tuple[pa.Array, NDArray[np.int64]]:
    """Ids and table rows [N] of the items that may be targets."""
    warm = items.counts >= tau
    for table in held_out(dataset, items.ids.type):
        rows = items.rows(table["item_id"])
        warm[rows[rows > 0] - 1] = False
    rows = np.flatnonzero(warm) + 1
    return items.owners(rows), rows
