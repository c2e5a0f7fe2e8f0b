"""The trained ranker, frozen, with rows of its own for some items.

Legend: B batch, T target and history positions of a batch, K items with rows of their own, D width, H width of the
ranker's last hidden layer.

E [K, D] stands for the K items wherever the ranker would use their rows of the item table: as targets and in histories.
Nothing is written to the table, and nothing but E can learn.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys.config import Config
from recsys.data.batch import HISTORY, Batch
from recsys.data.encode import ITEM, Encoder
from recsys.data.ids import UNKNOWN, IdMap
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.model.ranker import Ranker
from recsys.tables import checkpoint
from recsys.tables.locks import reading
from recsys.tables.rows import Rows
from recsys.tables.sharding import Sharded
from recsys.train import build


class Frozen:
    """A ranker with all its parameters frozen. Every method that looks up vectors is collective.

    Attributes:
        encoder: the ranker's, but its item map knows the K items too, by rows that the table may not have.
        ranks: this process's place.
        count: K.
        capacity: rows of the item table.
    """

    def __init__(self, encoder: Encoder, sharded: Sharded, items: pa.Array, ranks: Ranks) -> None:
        """`items`: [K] distinct raw ids, whether or not training saw them; row k of E stands for the k-th. `encoder`
        and `sharded`, a live ranker that was built for it, are changed.

        Raises:
            InputError: the ids' type is not the dataset's.
        """
        self.encoder = encoder
        self._sharded = sharded
        self._ranker: Ranker = sharded.model.module.ranker.eval()
        self._ranker.dense_arch.requires_grad_(False)
        self.ranks, self.count = ranks, len(items)
        known = encoder.maps[ITEM]
        self.capacity = known.capacity
        # Spare rows of the table may be fewer than the items. Rows beyond it are fine: they are never looked up.
        grown, rows = replace(known, capacity=len(known.ids) + 1 + len(items)).admit(items)
        encoder.maps[ITEM] = grown
        self._place = np.full(grown.capacity, -1)
        self._place[rows] = np.arange(len(items))
        self._place_on_device = torch.from_numpy(self._place).to(ranks.device)

    @classmethod
    def load(cls, config: Config, items: pa.Array, ranks: Ranks) -> "Frozen":
        """A run's best checkpoint, for `items` [K]. Collective.

        Raises:
            InputError: the run has no encoder or no checkpoint, or the ids' type is not the dataset's.
        """
        run = Path(config.run)
        encoder = Encoder.load(config, run / "encoder")
        sharded = build(config, encoder, ranks)
        checkpoint.load(checkpoint.best(run / "checkpoints"), sharded, optimizer=False)
        return cls(encoder, sharded, items, ranks)

    @classmethod
    def load_locked(cls, config: Config, items: pa.Array, ranks: Ranks) -> "Frozen":
        """`load`, while nobody may change the run. Collective."""
        with reading(Path(config.run)) if ranks.is_first else nullcontext():
            return cls.load(config, items, ranks)

    def place(self, item_rows: np.ndarray) -> np.ndarray:
        """[n] which row of E stands for the rows [n] of `encoder`'s item map; -1 for an item that is none of the K."""
        return self._place[item_rows]

    def vectors(self, item_rows: np.ndarray) -> Tensor:
        """[n, D] float32: what the item table holds at rows [n] (n > 0, the same on every rank)."""
        lengths = torch.zeros(2 * len(item_rows), dtype=torch.int32)
        lengths[: len(item_rows)] = 1
        keys = [self.encoder.spec.item.name, HISTORY]
        asked = KeyedJaggedTensor(keys, torch.from_numpy(item_rows), lengths=lengths).to(self.ranks.device)
        with torch.no_grad():
            return self._ranker.items(asked)[keys[0]].values()

    def features(self, table: str, rows: np.ndarray) -> Tensor:
        """[n, D] float32: what the table of a feature holds at rows [n]; each rank may name others."""
        return Rows(self._sharded, self.ranks).read(table, torch.from_numpy(rows).to(self.ranks.device))[0]

    def history(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The histories of a batch made by `encoder`, end to end.

        Returns:
            Vectors [T, D] float32, whether an item is neither unknown nor one of the K [T] bool, rows' lengths [B].
        """
        items = batch.items
        values = items.values().masked_fill(self._place_on_device[items.values()] >= 0, UNKNOWN)
        with torch.no_grad():
            asked = KeyedJaggedTensor(items.keys(), values, lengths=items.lengths())
            found = self._ranker.items(asked)[HISTORY]
        return found.values().float(), values[len(values) - len(found.values()) :] != UNKNOWN, found.lengths()

    def unknown(self) -> Tensor:
        """[D] float32: the trained unknown row, which stands for an item nobody has seen."""
        return self.vectors(np.array([UNKNOWN]))[0]

    def logits(self, batch: Batch, rows_KD: Tensor) -> Tensor:
        """[B] float32 logits of a batch made by `encoder`, on this device; the gradient reaches E = `rows_KD` alone."""
        return self.represent(batch, rows_KD)[0]

    def represent(self, batch: Batch, rows_KD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`logits`, the last hidden layers [B, H] float32 that they are a product with, and the vectors of the scored
        items [B, D] float32."""
        items = batch.items
        place_T = self._place_on_device[items.values()]
        own_T = place_T >= 0
        # Rows of the K items may lie beyond the table: what a lookup there gives is up to the sharding.
        values = items.values().masked_fill(own_T, UNKNOWN)
        known = KeyedJaggedTensor(items.keys(), values, lengths=items.lengths())
        with torch.no_grad():
            pooled, target, history, lengths = self._ranker.look_up(replace(batch, items=known))

        def mixed(looked_up: Tensor, place: Tensor) -> Tensor:
            own = (place >= 0).nonzero().squeeze(1)
            return looked_up.index_copy(0, own, rows_KD[place[own]])

        target, history = (
            mixed(looked_up, place)
            for looked_up, place in zip((target, history), place_T.split([len(target), len(history)]), strict=True)
        )
        looked_up = batch.dense, pooled, target, history, lengths, batch.history_label
        return *self._ranker.dense_arch.represent(*looked_up, *self._ranker.look_up_content(batch)), target


def require_new(config: Config, items: pa.Array, path: Path) -> None:
    """Refuse items that training rows have taught their vectors; `path`: where they are named.

    Raises:
        InputError: the run has no item map, or an item has training rows.
    """
    ids = IdMap.load(Path(config.run) / "encoder" / f"{ITEM}.parquet")
    counts = np.append(0, ids.counts)[ids.rows(items)]
    if counts.any():
        warm = int(np.argmax(counts))
        raise InputError(f"{path}: {items[warm]} has {counts[warm]} training rows: expected new items alone")
