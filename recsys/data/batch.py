"""What one step of one rank reads, as torchrec's pipelines want it.

Legend: B batch, F features, L history length, T history items of the batch, U distinct contents, C content tables.
"""

import math
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
        single = [users.single.take(user, axis=0), items.single.take(item, axis=0), block.single]
        dense = np.concatenate([users.dense.take(user, axis=0), items.dense.take(item, axis=0), block.dense], axis=1)
        multi = [side.take(user) for side in users.multi]
        multi += [side.take(item) for side in items.multi]
        multi += block.multi
        content, content_index = self._distinct(block.content, block.history_content)
        return Batch(
            dense=torch.from_numpy(_padded(dense, pad)),
            sparse=self._sparse(np.concatenate(single, axis=1).T, multi, salt),
            items=self._items(block, pad, salt),
            history_label=torch.from_numpy((block.events.values & 1).astype(np.int64)),
            content=content,
            content_index=content_index,
            label=torch.from_numpy(_padded(block.label, pad)),
            weight=torch.from_numpy(_padded(block.weight, pad)),
            row_id=torch.from_numpy(_padded(block.row_id, pad, -1)),
        )

    def _items(self, block: Block, pad: int, salt: int) -> KeyedJaggedTensor:
        """`Batch.items`. A padding row asks for the unknown item: torchrec must find one target a row."""
        self.unknown_items += int(np.count_nonzero(block.item_row == UNKNOWN))
        values = np.concatenate([_padded(block.item_row, pad, UNKNOWN), block.events.values], dtype=np.int64)
        values[self.batch_size :] >>= 1
        lengths = np.zeros((2, self.batch_size), np.int32)
        lengths[0] = 1
        lengths[1, : len(block)] = block.events.lengths
        return _keyed(self._item_keys, hide(values, self.hide_ids, salt) if self.hide_ids else values, lengths)

    def _sparse(self, single: np.ndarray, multi: list[Jagged], salt: int) -> KeyedJaggedTensor:
        """`Batch.sparse` of b rows' single-valued features [S, b] and multi-valued ones. Padding rows have none."""
        count, b = single.shape
        if (user := self._user_column) is not None:
            self.unknown_users += int(np.count_nonzero(single[user] == UNKNOWN))
            if self.hide_users:
                single[user] = hide(single[user], self.hide_users, ~salt)
        lengths = np.zeros((count + len(multi), self.batch_size), np.int32)
        lengths[:count, :b] = 1
        for column, told in zip(multi, lengths[count:], strict=True):
            told[:b] = column.lengths
        values = np.concatenate([single.ravel(), *(column.values for column in multi)])
        return _keyed(self._single_keys + self._multi_keys, values, lengths)

    def _distinct(self, target: np.ndarray, history: np.ndarray) -> tuple[KeyedJaggedTensor, Tensor]:
        """`Batch.content` and `Batch.content_index` of targets [b, C] and history items [T, C], or [T, 0]."""
        if not self._content:
            none = np.zeros(0, np.int64)
            return _keyed([], none, none.astype(np.int32)), torch.from_numpy(none)
        rows = _padded(target, self.batch_size - len(target))
        rows = np.concatenate([rows, history]) if history.shape[1] else rows
        capacity = tuple(self._content.values())
        index, distinct = pd.factorize(np.ravel_multi_index(tuple(rows.T), capacity))
        lengths = np.zeros((len(capacity), self.batch_size), np.int32)
        lengths[:, 0] = len(distinct)
        values = np.concatenate(np.unravel_index(distinct, capacity))
        return _keyed(list(self._content), values, lengths), torch.from_numpy(index)


def hide(rows: np.ndarray, share: float, salt: int) -> np.ndarray:
    """[n] table rows with a `share` of the distinct ones replaced by the unknown row, the same ones for one salt."""
    end = int(rows.max(initial=0)) + 1
    if end < len(rows):  # fewer draws than rows
        return hide(np.arange(end), share, salt).take(rows)
    # Multiplicative hashing: stateless, so that a resumed run hides what an uninterrupted one would have.
    mixed = rows.astype(np.uint64)
    mixed += np.uint64(salt & 0xFFFFFFFF)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed >>= np.uint64(40)
    return np.where(mixed < np.uint64(math.ceil(share * 2**24)), UNKNOWN, rows)


def _padded(x: np.ndarray, pad: int, value: float = 0.0) -> np.ndarray:
    """A copy of x [n, ...] with `pad` more rows."""
    return np.concatenate([x, np.full((pad, *x.shape[1:]), value, x.dtype)]) if pad else x.copy()


def _keyed(keys: list[str], values: np.ndarray, lengths: np.ndarray) -> KeyedJaggedTensor:
    """Of values [T] int64, key after key, and lengths [keys, B] int32."""
    return KeyedJaggedTensor(keys=keys, values=torch.from_numpy(values), lengths=torch.from_numpy(lengths.ravel()))
