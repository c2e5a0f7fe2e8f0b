"""Items and the vectors that stand for them in the ID space: what clicks have taught, and what content gives.

    kind         base run, aligned (stage 1)         run with model.proxy.place=slot or feature (stage 2)
    id           e, the item's row                   slot: e + W [p_coarse, p_fine]; feature: e
    coarse       p_coarse, of coarse.parquet         p_coarse in the ranker's width
    fine                                             p_fine, where there are layers
    stand-in                                         slot: e_0 + W [p_coarse, p_fine]
    unknown      e_0, the unknown row, of warm items e_0

`id` is the truth that the others are held against. Only a warm item has it: one with at least tau training rows. In
the slot it is the whole slot vector, since e alone is but what proxies leave to be learned, and the stand-in is what a
new item has in its place. Both hold the same W [p_coarse, p_fine], which brings them together by itself: the cosine of
the stand-in to e alone, without it, is told as well. Coarse proxies are made to point as their IDs do; fine ones point
where W, or the crossing, reads them best, so that their own cosine to IDs says little of their worth.

Parts are those that the alignment drew. A cosine on what it learned from flatters, unless it has folds: the proxies of
these items then come from encoders that have not seen their IDs. Stage 2 trains on the clicks of all warm items, so
that only new items are unknown to what it has trained.

Legend: n items, D embedding width.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from proxy import saved, targets
from proxy.vectors import folder_of
from recsys.config import Config
from recsys.config_proxy import Align
from recsys.data.check import check_texts
from recsys.data.content import COARSE as COARSE_TABLE
from recsys.data.content import LAYERS
from recsys.data.encode import ITEM
from recsys.data.ids import UNKNOWN as UNKNOWN_ROW
from recsys.data.schema import ITEMS
from recsys.data.side import decoded
from recsys.data.splits import keys_at
from recsys.data.vectors import batches, opened
from recsys.data.vectors import of as vectors_of
from recsys.errors import InputError
from recsys.evaluate.ties import id_keys
from recsys.model.slots import IDSlot
from recsys.tables import checkpoint, folded
from recsys.tables.parts import Table, tables_of
from recsys.tables.stored import StoredTensor

ID, COARSE, FINE, STAND_IN, UNKNOWN = "id", "coarse", "fine", "stand-in", "unknown"
PARTS = ("train", "valid", "test", "rare", "new")
"""What alignment learned from, stopped early on and left out; items with an ID of too few rows; items without any."""
_RARE, _NEW = 3, 4
_MOST = 20_000
"""Items that are looked at: a sample of them tells as much."""
_OTHERS = 8
_SALT = 7
_FUSE = "ranker.dense_arch.slot.fuse.weight"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """n items, drawn by their ids and in the order of the draw: the first of them are a sample of all.

    Attributes:
        items: item_id, title, category (the first one, "" where an item has none).
        part: [n] int8, positions in PARTS.
        vectors: by kind, in the order above: [n, D] float32, NaN for an item without one.
        row: [n, D] float32, e of warm items, which in the slot is not their `id`.
        tables: the version of the tables that they were read from.
        aligned_to: that of the tables that the coarse proxies were made for; None if nothing tells.
        folds: those of the alignment.
    """

    items: pa.Table
    part: NDArray[np.int8]
    vectors: dict[str, Vectors]
    row: Vectors
    tables: str
    aligned_to: str | None
    folds: int

    def length(self, kind: str) -> Vectors:
        """[n] of the vectors of a kind."""
        return np.linalg.norm(self.vectors[kind], axis=1)

    def cosine(self, kind: str) -> Vectors:
        """[n] to the item's own `id`; NaN where it has none."""
        return _cosine(self.vectors[kind], self.vectors[ID])

    def cosine_to_row(self, kind: str) -> Vectors:
        """[n] to e alone."""
        return _cosine(self.vectors[kind], self.row)

    def cosine_to_another(self, kind: str) -> Vectors:
        """[n, k] to the `id` of k other items (at most 8): what is left where nothing of the item itself is known."""
        warm = np.flatnonzero(~np.isnan(self.row[:, 0]))
        found = np.full((len(self.row), min(_OTHERS, len(warm) - 1)), np.nan, np.float32)
        for k in range(found.shape[1]):
            found[warm, k] = _cosine(self.vectors[kind][warm], self.vectors[ID][np.roll(warm, k + 1)])
        return found


def read(config: Config) -> Space:
    """Look at a run: at its slot or features where `model.proxy` has any, else at its alignment.

    Raises:
        InputError: neither is there, as `proxy.targets.read`, or a damaged file.
    """
    coarse = config.model.proxy.coarse if config.model.proxy.place != "none" else None
    file = Path(coarse) if coarse else folder_of(config) / "coarse.parquet"
    if coarse is None and not file.exists():
        raise InputError(
            f"{file}: no such file: nothing to look at but IDs: run tools.align first, or name a run with model.proxy"
        )
    options, aligned_to = _alignment(file, config.proxy.align)
    warm = targets.read(replace(config, proxy=replace(config.proxy, align=options)))
    items = _drawn(Path(config.data.path) / ITEMS, options.seed)
    source = checkpoint.best(Path(config.run) / "checkpoints")
    tables = {table.name: table for table in tables_of(Path(config.run), source)}
    ids = items["item_id"].combine_chunks().cast(warm.ids.type)
    place = pc.index_in(ids, warm.ids).fill_null(-1).to_numpy()
    row = np.where((place >= 0)[:, None], warm.vectors.numpy()[place], np.float32(np.nan))
    unknown = StoredTensor(source, tables[ITEM].tensor).read(range(UNKNOWN_ROW, UNKNOWN_ROW + 1)).float()
    if coarse is None:
        vectors = {ID: row, COARSE: vectors_of(file, ids).astype(np.float32)}
    else:
        vectors = _stage2(config, source, tables, ids, row, unknown)
    vectors[UNKNOWN] = np.where(np.isnan(row), row, unknown.numpy())
    part = np.where(place >= 0, warm.part[place], _without(tables[ITEM], ids)).astype(np.int8)
    return Space(items, part, vectors, row, warm.base, aligned_to, options.folds)


def _alignment(coarse: Path, options: Align) -> tuple[Align, str | None]:
    """How the alignment behind a file of coarse proxies drew its items, and for which tables; `options` if none is."""
    folder = coarse.parent.parent / "align" / saved.BEST
    if not folder.exists():
        return options, None
    of = saved.about(folder).of
    told = {name: of[f"proxy.align.{name}"] for name in ("tau", "valid_share", "test_share", "seed")}
    return replace(options, **told, folds=len([*folder.parent.glob("fold-*")])), of["tables"]


def _drawn(path: Path, seed: int) -> pa.Table:
    """item_id, title and category of at most _MOST items of a dataset, those of the lowest draws, in their order."""
    kept: pa.Table | None = None
    with opened(path) as file:
        check_texts(path, file.schema_arrow)
        columns = [name for name in ("item_id", "title", "categories") if name in file.schema_arrow.names]
        for batch in batches(file, path, columns):
            some = pa.table([decoded(column) for column in batch.columns], names=columns)
            some = some if kept is None else pa.concat_tables([kept, some])
            draws = keys_at(id_keys(some["item_id"].combine_chunks()), seed, _SALT)
            kept = some.take(pa.array(np.argsort(draws, kind="stable")[:_MOST]))
    if kept is None:
        raise InputError(f"{path}: expected items, found none")
    ids, empty = kept["item_id"], [None] * len(kept)
    titles = kept["title"].to_pylist() if "title" in columns else empty
    categories = kept["categories"].to_pylist() if "categories" in columns else empty
    titles = [str(title or name) for title, name in zip(titles, ids.to_pylist(), strict=True)]
    first = [next(filter(None, each or []), "") for each in categories]
    return pa.table({"item_id": ids, "title": titles, "category": first})


def _without(table: Table, ids: pa.Array) -> NDArray[np.int64]:
    """[n] the part of items that are no targets."""
    counts = np.concatenate([[0], table.ids.counts])
    return np.where(counts[table.ids.rows(ids)] > 0, _RARE, _NEW)


def _stage2(
    config: Config, source: Path, tables: dict[str, Table], ids: pa.Array, row: Vectors, unknown: Tensor
) -> dict[str, Vectors]:
    """What the ranker makes of the frozen vectors; NaN for an item without content."""
    coarse, layers = tables[COARSE_TABLE], tables.get(LAYERS)
    rows = torch.from_numpy(coarse.ids.rows(ids))
    stored = StoredTensor(source, coarse.tensor)
    stored.check(range(coarse.rows))
    made = folded.proxies(config, source, [table.dim for table in (coarse, layers) if table])
    with torch.inference_mode():
        found = {COARSE: made.project(stored.take(rows).float())}
        if layers:
            fine = folded.Fine(config, source, coarse, layers)
            fine.check(range(coarse.rows))
            found[FINE] = fine.take(rows)
        truth = torch.from_numpy(row)
        if config.model.proxy.place == "slot":
            slot = IDSlot(config.model.dim, len(found))
            slot.load_state_dict({"fuse.weight": checkpoint.read(source, [_FUSE])[_FUSE]})
            shift = slot.shift(torch.stack([*found.values()], dim=1))
            truth, found[STAND_IN] = slot(truth, shift), slot(unknown, shift)
    bare = (rows == UNKNOWN_ROW).unsqueeze(1)
    return {ID: truth.numpy(), **{kind: each.masked_fill(bare, np.nan).numpy() for kind, each in found.items()}}


def _cosine(a: Vectors, b: Vectors) -> Vectors:
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
