"""What one step of one rank reads, as torchrec's pipelines want it.

Legend: B batch, F features, L history length, T history items of the batch, U distinct contents, C content tables.
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from recsys.data.encode import USER, Block, Encoder
from recsys.data.ids import UNKNOWN
from recsys.data.jagged import Jagged

HISTORY = "history"


@dataclass
class Batch(Pipelineable):
    """Exactly B rows; the last ones may be padding of weight 0.

    Attributes:
        dense: [B, F_dense] float32, standardised.
        sparse: keys = the categorical features; table rows.
        items: keys = item_id (one row a sample) and history (0 to L rows); rows of the item table.
        history_label: [T] int64, 1 liked and 0 not, aligned with the history's values.
        content: keys = the content tables; U rows of each, those that the batch's items have, each once. All of them
            lie in the first sample: their number has nothing to do with B, which every rank must have alike.
        content_index: [B + T] int64, which of the U each target and history item has; [B] where histories show no
            content, [0] where there are no content tables.
        label, weight: [B] float32; a weight is 1 unless a column gives it. row_id: [B] int64, -1 for padding.
    """

    dense: Tensor
    sparse: KeyedJaggedTensor
    items: KeyedJaggedTensor
    history_label: Tensor
    content: KeyedJaggedTensor
    content_index: Tensor
    label: Tensor
    weight: Tensor
    row_id: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The batch on another device."""
        return Batch(*(getattr(self, f.name).to(device=device, non_blocking=non_blocking) for f in fields(self)))

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until `stream` is done with it."""
        for item in fields(self):
            getattr(self, item.name).record_stream(stream)

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory, for an asynchronous copy to a GPU."""
        return Batch(*(getattr(self, item.name).pin_memory() for item in fields(self)))


class Batcher:
    """Cuts batches of `batch_size` rows from encoded blocks.

    Attributes:
        unknown_users, unknown_items: rows cut so far whose user or item has no row of its own (before any is hidden).
    """

    def __init__(self, encoder: Encoder, batch_size: int, hide_ids: float = 0.0, hide_users: float = 0.0) -> None:
        """`hide_ids`: share of the distinct items of a batch that take the unknown row, as target and in histories."""
        self.encoder = encoder
        self.batch_size = batch_size
        self.hide_ids, self.hide_users = hide_ids, hide_users
        spec = encoder.spec
        self._item_keys = [spec.item.name, HISTORY]
        self.unknown_users = self.unknown_items = 0
        self._single_keys = [table.name for table in spec.single]
        self._user_column = self._single_keys.index(USER) if USER in self._single_keys else None
        self._multi_keys = [table.name for table in spec.multi]
        self._content = {table.name: table.capacity for table in spec.content}

    def cut(self, block: Block, salt: int = 0) -> Batch:
        """A block of at most B rows, padded to B. `salt` draws which items are hidden."""
        pad = self.batch_size - len(block)
        users, items = self.encoder.users, self.encoder.items
        user, item = block.user, block.item
        single = np.concatenate([users.single[user], items.single[item], block.single], axis=1)
        target, history = block.item_row, block.history
        self.unknown_items += int((target == UNKNOWN).sum())
        if self._user_column is not None:
            self.unknown_users += int((single[:, self._user_column] == UNKNOWN).sum())
        if self.hide_users and self._user_column is not None:
            single[:, self._user_column] = hide(single[:, self._user_column], self.hide_users, ~salt)
        dense = np.concatenate([users.dense[user], items.dense[item], block.dense], axis=1)
        multi = [side.take(user) for side in users.multi]
        multi += [side.take(item) for side in items.multi]
        multi += block.multi
        if self.hide_ids:
            target = hide(target, self.hide_ids, salt)
            history = Jagged(hide(history.values, self.hide_ids, salt), history.offsets)
        content, content_index = self._distinct(block.content, block.history_content)
        return Batch(
            dense=torch.from_numpy(_padded(dense, pad)),
            sparse=self._sparse(single, multi, pad),
            items=_keyed(
                self._item_keys,
                # A padding row asks for the unknown item: torchrec must find one target a row.
                [Jagged(_padded(target, pad, UNKNOWN), np.arange(self.batch_size + 1)), history],
                [0, pad],
            ),
            history_label=torch.from_numpy(block.history_label.astype(np.int64)),
            content=content,
            content_index=content_index,
            label=torch.from_numpy(_padded(block.label, pad)),
            weight=torch.from_numpy(_padded(block.weight, pad)),
            row_id=torch.from_numpy(_padded(block.row_id, pad, -1)),
        )

    def _distinct(self, target: np.ndarray, history: np.ndarray) -> tuple[KeyedJaggedTensor, Tensor]:
        """`Batch.content` and `Batch.content_index` of targets [b, C] and history items [T, C], or [T, 0]."""
        if not self._content:
            return _keyed([], [], []), torch.zeros(0, dtype=torch.int64)
        rows = _padded(target, self.batch_size - len(target))
        rows = np.concatenate([rows, history]) if history.shape[1] else rows
        capacity = tuple(self._content.values())
        index, distinct = pd.factorize(np.ravel_multi_index(tuple(rows.T), capacity))
        offsets = np.full(self.batch_size + 1, len(distinct))
        offsets[0] = 0
        columns = [Jagged(np.asarray(column), offsets) for column in np.unravel_index(distinct, capacity)]
        return _keyed(list(self._content), columns, [0] * len(columns)), torch.from_numpy(index)

    def _sparse(self, single: np.ndarray, multi: list[Jagged], pad: int) -> KeyedJaggedTensor:
        n = len(single)
        one_each = np.arange(n + 1)
        columns = [Jagged(np.ascontiguousarray(column), one_each) for column in single.T]
        return _keyed(self._single_keys + self._multi_keys, columns + multi, [pad] * (len(columns) + len(multi)))


def hide(rows: np.ndarray, share: float, salt: int) -> np.ndarray:
    """[n] table rows with a `share` of the distinct ones replaced by the unknown row, the same ones for one salt."""
    # Multiplicative hashing: stateless, so that a resumed run hides what an uninterrupted one would have.
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) + np.uint64(salt & 0xFFFFFFFF)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        mixed *= np.uint64(0xD6E8FEB86659FD93)
    return np.where((mixed >> np.uint64(40)).astype(np.float64) < share * 2**24, UNKNOWN, rows)


def _padded(x: np.ndarray, pad: int, value: float = 0.0) -> np.ndarray:
    """A copy of x [n, ...] with `pad` more rows."""
    return np.concatenate([x, np.full((pad, *x.shape[1:]), value, x.dtype)])


def _keyed(keys: list[str], columns: list[Jagged], pads: list[int]) -> KeyedJaggedTensor:
    lengths = [_padded(column.lengths, pad) for column, pad in zip(columns, pads, strict=True)]
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.from_numpy(np.concatenate([column.values for column in columns] or [np.zeros(0, np.int64)])),
        lengths=torch.from_numpy(np.concatenate(lengths or [np.zeros(0, np.int64)]).astype(np.int32)),
    )
