"""Proxies of items that were not there when the ranker was trained (IDProxy, section 3.2.4), in batch.

Items are encoded by the encoder that made the vectors which the ranker reads (`proxy.kept`), their vectors kept
(`proxy.store`), and a delta of them brought into the run (`proxy.issue`): its checkpoints, id maps and bundle score the
items by their content from then on, without a retrain.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from proxy import kept, store
from proxy.content import Content
from proxy.content import read as read_content
from proxy.issue import Issued, Target, issue
from proxy.kept import Kept
from proxy.store import PART, Store
from recsys import runs
from recsys.config import Config
from recsys.config_proxy import ContentEncoder
from recsys.data.schema import ITEMS
from recsys.data.vectors import opened, require_ids
from recsys.errors import InputError
from recsys.tables.locks import reading


@dataclass(frozen=True)
class Generated:
    """What came of `items`, of which `empty` have no content at all and `encoded` were not known as they are."""

    items: int
    empty: int
    encoded: int
    issued: Issued


def generate(config: Config, path: Path, device: torch.device) -> Generated:
    """Encode the items of a Parquet file and give the config's run their proxies.

    Idempotent: content that was encoded before is not again, even if that process was killed (at most `store.PART`
    items are lost then), and values that the tables hold are left out. So are items of the dataset whose content is
    the one that the vectors were made from: of an item whose ID was learned from they come from the encoder without its
    fold. Changed content is encoded anew, by the encoder that has learned from all folds, and counts.

    Args:
        path: item_id, and columns that the template of the encoder's own config names; or a dataset directory.

    Raises:
        InputError: the ranker reads no proxies that can be made anew (`proxy.kept`), the file or its ids, no item
            with any content, or as `issue`.
    """
    folder, path = kept.folder_of(config), path / ITEMS if path.is_dir() else path
    runs.bring_up(config)
    with store.changing(folder):
        with reading(Path(config.run)):
            target = Target(config)
            target.require_bundle()
        with opened(path) as file:
            require_ids(file, path, target.kind)
            items = file.metadata.num_rows
        encoder = kept.load(config, device)
        counts: Counter[str] = Counter()
        contents = read_content(path, encoder.options, chunk(encoder.options), counts)
        bar = tqdm(contents, desc="proxies", unit="chunk", total=-(-items // chunk(encoder.options)), disable=None)
        ids, encoded = encode(encoder, bar, Store(folder, target.kind))
        if not len(ids):
            raise InputError(f"{path}: none of {items} items has any content")
        return Generated(items, counts["empty"], encoded, issue(config, folder, ids))


def refresh(config: Config) -> Issued:
    """Give the config's run the proxies of every item ever generated from the vectors it reads; nothing is encoded.

    For a run trained anew. A run that was trained on needs none: its tables hold them, and a new export makes p_fine.

    Raises:
        InputError: as `generate`.
    """
    folder = kept.folder_of(config)
    runs.bring_up(config)
    with store.changing(folder):
        return issue(config, folder)


def encode(encoder: Kept, contents: Iterable[Content], into: Store) -> tuple[pa.Array, int]:
    """Encode what neither the store nor the files beside it hold, and keep it there.

    Returns:
        Ids of the items with content, each once in `contents`, and how many of them were encoded.
    """
    told, waiting = [pa.nulls(0, into.kind)], _Waiting(into)
    for content in contents:
        some = content.take(np.flatnonzero(~content.empty))
        told.append(some.ids.cast(into.kind))
        digests = some.digests
        new = np.flatnonzero(~into.holds(some.ids, digests))
        if len(new):
            waiting.add(some.ids.take(pa.array(new)), [digests[k] for k in new], encoder.encode(some.take(new)))
    waiting.flush()
    return pa.concat_arrays(told), waiting.written


def chunk(options: ContentEncoder) -> int:
    """Items read at a time: texts by the thousand, so that those of one length meet; images are large."""
    return 256 if options.kind == "vision" else PART


class _Waiting:
    """Vectors that make a part of the store once they are enough."""

    def __init__(self, into: Store) -> None:
        self._store, self.written = into, 0
        self._clear()

    def _clear(self) -> None:
        self._ids: list[pa.Array] = []
        self._digests: list[bytes] = []
        self._vectors: list[tuple[Tensor, Tensor]] = []

    def add(self, ids: pa.Array, digests: list[bytes], vectors: tuple[Tensor, Tensor]) -> None:
        self._ids.append(ids)
        self._digests += digests
        self._vectors.append(vectors)
        if len(self._digests) >= PART:
            self.flush()

    def flush(self) -> None:
        if self._digests:
            coarse, layers = (torch.cat(parts) for parts in zip(*self._vectors, strict=True))
            self._store.append(pa.concat_arrays(self._ids), self._digests, coarse, layers)
            self.written += len(self._digests)
        self._clear()
