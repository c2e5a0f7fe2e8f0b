"""Stored vectors of items into a ranker: a delta of coarse and fine proxies, for checkpoints, id maps and the bundle.

    item_coarse    for all          p_coarse
    item_layers    for training     z of the groups of layers
    item_fine      for serving      p_fine = W_c p_coarse + r * p_raw, by the best checkpoint's adaptor and gate

Training and export make p_fine from the same half-precision values. It belongs to the dense part that its adaptor was
trained with: a bundle exported at another step has another one, and needs a new export, which makes all anew.

Legend: n items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from proxy import kept
from proxy.store import PART, Kind, Store
from recsys.config import Config
from recsys.data import content, vectors
from recsys.data.content import COARSE, FINE, LAYERS
from recsys.data.ids import UNKNOWN
from recsys.errors import InputError
from recsys.model.proxies import Proxies
from recsys.tables import checkpoint, folded, manifest, service
from recsys.tables.bundle import EXPORT
from recsys.tables.delta import Delta
from recsys.tables.parts import Table, tables_of
from recsys.tables.piece import Audience, Piece
from recsys.tables.stored import StoredTensor

SOURCE = "generate"
_OTHERS = "train a ranker on them, in another run=..., or bring the folder back that this one was trained on"
_KINDS: dict[str, Kind] = {COARSE: "coarse", LAYERS: "layers"}


@dataclass(frozen=True)
class Issued:
    """`delta` is None where there was nothing to do; of `items` looked at, `held` were in the tables as they are."""

    delta: Delta | None
    items: int
    held: int


class Target:
    """The content tables of a run's best checkpoint; the run is up to its log, and nobody changes it meanwhile.

    Attributes:
        base: the checkpoint's version.
        tables: `item_coarse`, and `item_layers` where the ranker reads layers.

    Raises:
        InputError: no checkpoint, or one that was not trained on the config's files as they are.
    """

    def __init__(self, config: Config) -> None:
        self.run = Path(config.run)
        self.source = checkpoint.best(self.run / "checkpoints")
        self.base = checkpoint.version_of(self.source)
        every = {table.name: table for table in tables_of(self.run, self.source)}
        self.tables = [every[name] for name in content.files(config)]
        self._stored = [StoredTensor(self.source, table.tensor) for table in self.tables]
        self._require_files(config)

    def require_bundle(self) -> None:
        """Refuse fine proxies for a bundle whose dense part is not this checkpoint's.

        Raises:
            InputError: the run has such a bundle, or one that cannot be read.
        """
        folder = self.run / "export"
        if not folder.exists() or len(self.tables) == 1:
            return
        told = manifest.read(folder, EXPORT)
        step = told["source"]["step"]
        if (told["origin"]["dense"], step) != (self.base.dense, self.base.step):
            raise InputError(
                f"{folder}: exported at step {step}, the best checkpoint is at step {self.base.step}: run tools.export "
                "first, which makes the fine proxies of all items anew"
            )

    @property
    def kind(self) -> pa.DataType:
        """The type of ids."""
        return self.tables[0].ids.ids.type

    def proxies(self, config: Config) -> Proxies:
        """The trained adaptor and gate, or of a ranker without layers what brings p_coarse to its width."""
        return folded.proxies(config, self.source, [table.dim for table in self.tables])

    def lacks(self, store: Store, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n] whether the items at these places of the store have other values in the tables, or no row."""
        ids, differs = store.ids.take(pa.array(at)), np.zeros(len(at), bool)
        for table, stored in zip(self.tables, self._stored, strict=True):
            rows = table.ids.rows(ids)
            values = store.take(at, _KINDS[table.name])
            other = (stored.take(torch.from_numpy(rows)) != fitted(values, table.dim)).any(1).numpy()
            differs |= other | (rows == UNKNOWN)
        return differs

    def pieces(self, store: Store, at: NDArray[np.int64], proxies: Proxies) -> Iterator[Piece]:
        """The rows of the items at these places of the store.

        Raises:
            InputError: more new items than free rows.
        """
        ids = store.ids.take(pa.array(at))
        rows = {table.name: self._rows(table, ids) for table in self.tables}

        def piece(name: str, of: str, some: NDArray[np.int64], values: Tensor, audience: Audience) -> Piece:
            named = torch.from_numpy(rows[of][some])
            return Piece.of(name, named, ids.take(pa.array(some)), values, SOURCE, self.base, audience=audience)

        for some in store.chunks(np.argsort(rows[COARSE])):
            read = [fitted(store.take(at[some], _KINDS[table.name]), table.dim).float() for table in self.tables]
            yield piece(COARSE, COARSE, some, read[0], "both")
            if len(read) > 1:
                with torch.inference_mode():
                    fine = proxies.fine(*read)
                yield piece(FINE, COARSE, some, fine, "serving")
        for table in self.tables[1:]:
            # Rows of their own, in which the items may come in another order.
            for some in store.chunks(np.argsort(rows[table.name])):
                values = fitted(store.take(at[some], _KINDS[table.name]), table.dim).float()
                yield piece(table.name, table.name, some, values, "training")

    def _rows(self, table: Table, ids: pa.Array) -> NDArray[np.int64]:
        rows = table.ids.admit(ids)[1]
        if (rows == UNKNOWN).any():
            new = int((table.ids.rows(ids) == UNKNOWN).sum())
            raise InputError(
                f"{self.source}: {new} items without a row, but table {table.name} has {table.ids.free} free rows of "
                f"{table.ids.capacity}: train anew with a greater model.spare"
            )
        return rows

    def _require_files(self, config: Config) -> None:
        """Refuse an encoder whose vectors are not those that the ranker has learned from.

        Any item may have been given other content since, but of what other weights or groups of layers make, no row is
        in the table: one that is there to the last bit tells enough.
        """
        files, folder = content.files(config), kept.folder_of(config)
        pairs = zip(self.tables, self._stored, strict=True)
        if not all(self._begun_with(table, stored, files[table.name]) for table, stored in pairs):
            store = Store(folder, self.kind)
            at = np.arange(min(len(store.ids), PART))
            if not len(at) or self.lacks(store, at).all():
                raise InputError(f"{folder}: these are not the vectors that {self.source} was trained with: {_OTHERS}")

    def _begun_with(self, table: Table, stored: StoredTensor, path: Path) -> bool:
        """Whether a file's vectors of any of its first items are in the table."""
        ids, read = next(vectors.read(path, self.kind))
        rows = table.ids.rows(ids)
        known = np.flatnonzero(rows != UNKNOWN)
        values = fitted(torch.from_numpy(read[known]).half(), table.dim)
        return bool((stored.take(torch.from_numpy(rows[known])) == values).all(1).any())


def issue(config: Config, folder: Path, ids: pa.Array | None = None) -> Issued:
    """Bring the stored vectors of items into the run's tables by a delta, those of `ids` or all.

    Idempotent: what the tables hold already is left out.

    Args:
        folder: of vectors, with its store; nobody else changes it meanwhile.
        ids: of items in the store, or in the files that the tables began with.

    Raises:
        InputError: as `Target`, the run's bundle is of another checkpoint, a part of the store is damaged, or more new
            items than free rows; nothing has changed.
    """
    counts = [0, 0]

    def pieces() -> Iterator[Piece]:
        target = Target(config)
        target.require_bundle()
        store = Store(folder, target.kind)
        at = np.arange(len(store.ids)) if ids is None else np.sort(store.find(ids))
        at, count = at[at >= 0], len(at)
        missing = [some[target.lacks(store, some)] for some in store.chunks(at)]
        lacking = np.concatenate([at[:0], *missing])
        counts[:] = count, count - len(lacking)
        if len(lacking):
            yield from target.pieces(store, lacking, target.proxies(config))

    delta = service.publish(Path(config.run), pieces, stale=config.tables.max_staleness)
    return Issued(delta, *counts)


def fitted(values: Tensor, width: int) -> Tensor:
    """[n, D] -> [n, width], D rounded up to a multiple of 4; the last columns are zero.

    Raises:
        InputError: it is another width than these vectors have in a table.
    """
    gap = width - values.shape[1]
    if not 0 <= gap < 4:
        raise InputError(
            f"vectors of {values.shape[1]} numbers are not those that the ranker was trained with, whose table has "
            f"{width}: {_OTHERS}"
        )
    return pad(values, (0, gap))
