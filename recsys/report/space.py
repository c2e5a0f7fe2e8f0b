"""Do proxies lie where clicks have put the items? t-SNE of ID vectors and of proxies, in one map.

IDs are the rows of warm items in the run's best checkpoint; proxies are those that `tools.align` made of content.
Directions alone are compared: that is what alignment teaches.

Legend: n items drawn, m points, D embedding width.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import FigureBase
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from recsys.config import Config
from recsys.data import vectors
from recsys.data.encode import ITEM
from recsys.report.drawing import axes_of, head
from recsys.report.figure import Figure, Made, NotRun, Panel, Sheet, number
from recsys.report.palette import ACCENT, COLOURS, MUTED
from recsys.report.source import Source
from recsys.tables import checkpoint
from recsys.tables.locks import reading
from recsys.tables.parts import tables_of
from recsys.tables.stored import StoredTensor

TITLE = "The ID space: clicks and content"
HEIGHT = 360
MOST = 600
"""Items that have both an ID and a proxy, on the map at most; and half as many that have a proxy alone."""
_ID, _PROXY, _NEW = range(3)
_KINDS = ("IDs: clicks", "proxies: content", "proxies of new items")
_LOOKS = ((COLOURS["slate"][0], "o", 9), (COLOURS["blue"][0], "^", 12), (ACCENT, "P", 15))

_KEY: dict[str, Any] = {"frameon": False, "fontsize": 9, "handletextpad": 0.1, "columnspacing": 0.9, "borderpad": 0}

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Drawn:
    """Directions [n, D] float32 of items: warm ones by ID and by proxy, new ones by proxy."""

    ids: Vectors
    proxies: Vectors
    new: Vectors


def make(source: Source) -> Made:
    """The map, once with all kinds and once for each.

    Raises:
        InputError: a damaged checkpoint, or proxies of another dataset or width.
    """
    config, commands = source.config, [source.command("tools.train"), source.command("tools.align")]
    proxies = Path(config.model.proxy.coarse or source.run / "proxy" / "vectors" / "coarse.parquet")
    if not proxies.exists() or not any((source.run / "checkpoints").glob("step-*")):
        return NotRun(TITLE, commands)
    drawn = _read(config, proxies)
    if len(drawn.ids) < 10:
        return NotRun(TITLE, commands)
    own = (drawn.ids * drawn.proxies).sum(axis=1)
    other = (drawn.ids * np.roll(drawn.proxies, 1, axis=0)).sum(axis=1)
    kind = np.repeat([_ID, _PROXY, _NEW], [len(drawn.ids), len(drawn.proxies), len(drawn.new)])
    xy = arrange(np.concatenate([drawn.ids, drawn.proxies, drawn.new]), config.proxy.align.seed)
    quartiles = [np.quantile(values, [0.25, 0.5, 0.75]) for values in (own, other)]
    medians = [number(values[1]) for values in quartiles]
    told = f"The median cosine of a proxy to its own item's ID is {medians[0]}, to another's {medians[1]}"
    rows = [
        [name, f"{len(own):,}", *(number(value, ".4f") for value in values)]
        for name, values in zip(("own ID", "another item's ID"), quartiles, strict=True)
    ]
    shown: dict[str, int | None] = {f"{told}; {len(drawn.new):,} new items have a proxy alone.": None}
    shown |= {f"{_KINDS[one]} alone, {(kind == one).sum():,} points.": one for one in range(3) if (kind == one).any()}
    panels = [Panel(words, partial(_draw, xy=xy, kind=kind, only=only)) for words, only in shown.items()]
    return Figure(
        name="space",
        title=TITLE,
        finding=f"{told}, over {len(own):,} warm items.",
        panels=panels,
        height=HEIGHT,
        sheet=Sheet(["cosine of a proxy to", "items", "lower quartile", "median", "upper quartile"], rows),
        commands=commands,
        note="t-SNE of directions, seeded; nearer dots are more alike. tools.align look draws the space in full.",
    )


def arrange(unit: Vectors, seed: int) -> Vectors:
    """[m, 2] places of vectors [m, D] of length 1; the same for the same vectors and seed."""
    sne = TSNE(perplexity=min(30.0, (len(unit) - 1) / 3), init="pca", max_iter=500, random_state=seed)
    with threadpool_limits(1):  # more threads add up in another order each time
        placed: Vectors = sne.fit_transform(unit)
    return placed


def _read(config: Config, proxies: Path) -> Drawn:
    """A sample of the items with at least tau training rows, and of those without any."""
    run, random = Path(config.run), np.random.default_rng(config.proxy.align.seed)
    with reading(run):
        source = checkpoint.best(run / "checkpoints")
        table = next(table for table in tables_of(run, source) if table.name == ITEM)
        warm = np.flatnonzero(table.ids.counts >= config.proxy.align.tau)
        warm = np.sort(random.permutation(warm)[:MOST])
        stored = StoredTensor(source, table.tensor)
        rows = stored.take(torch.from_numpy(warm + 1)).float().numpy()
    kind = table.ids.ids.type
    coarse = vectors.of(proxies, table.ids.ids.take(pa.array(warm))).astype(np.float32)
    both = ~np.isnan(coarse[:, 0]) & (np.linalg.norm(rows, axis=1) > 0)
    counts = np.concatenate([[0], table.ids.counts])  # of rows; an item without a row has the unknown one's
    found = [x[counts[table.ids.rows(ids)] == 0] for ids, x in vectors.read(proxies, kind)]
    new = np.concatenate(found).astype(np.float32)
    return Drawn(_unit(rows[both]), _unit(coarse[both]), _unit(random.permutation(new)[: MOST // 2]))


def _unit(rows: Vectors) -> Vectors:
    unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _draw(host: FigureBase, xy: Vectors, kind: NDArray[np.int64], only: int | None) -> None:
    here = kind >= 0 if only is None else kind == only
    title = "all in one map" if only is None else _KINDS[only]
    head(host, HEIGHT, title, f"{here.sum():,} points")
    axis = axes_of(host, HEIGHT, 2, 2, top=38, bottom=26 if only is None else 4)
    axis.set(xticks=[], yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    if only is not None:
        axis.scatter(xy[~here, 0], xy[~here, 1], s=5, color=MUTED, alpha=0.18, linewidths=0)
    for one, (colour, marker, size) in enumerate(_LOOKS):
        x, y = xy[here & (kind == one)].T
        if len(x):
            axis.scatter(x, y, s=size, color=colour, marker=marker, alpha=0.75, linewidths=0, label=_KINDS[one])
    if only is None:
        host.legend(loc="lower left", bbox_to_anchor=(-0.03, 0), ncols=3, markerscale=1.7, **_KEY)
