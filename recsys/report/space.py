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
from matplotlib.axes import Axes
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
HEIGHT = 350
MOST = 400
"""Items that have both an ID and a proxy, on the map at most; and half as many that have a proxy alone."""
_PAIRS = 60
_ID, _PROXY, _NEW = range(3)
_KINDS = ("IDs: clicks", "proxies: content", "new items' proxies")
_LOOKS = ((COLOURS["slate"][0], "o", 9), (COLOURS["blue"][0], "^", 12), (ACCENT, "P", 15))

_KEY: dict[str, Any] = {"frameon": False, "fontsize": 10.5, "handletextpad": 0, "columnspacing": 0.9, "borderpad": 0}

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Drawn:
    """Directions [n, D] float32 of items: warm ones by ID and by proxy, new ones by proxy."""

    ids: Vectors
    proxies: Vectors
    new: Vectors


def make(source: Source) -> Made:
    """The map with all kinds, and with lines from IDs to their proxies.

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
    pairs = partial(_pairs, ids=xy[: len(own)], own=xy[len(own) : 2 * len(own)])
    panels = [
        Panel(f"{told}; {len(drawn.new):,} new items have a proxy alone.", HEIGHT, partial(_draw, xy=xy, kind=kind)),
        Panel("Lines from items' IDs to their proxies.", HEIGHT, pairs),
    ]
    return Figure(
        name="space",
        title=TITLE,
        finding=f"{told}, over {len(own):,} warm items.",
        panels=panels,
        sheet=Sheet(["cosine of a proxy to", "items", "lower quartile", "median", "upper quartile"], rows),
        commands=commands,
        note="t-SNE of directions, seeded: nearer dots are more alike. tools.align look tells apart what was left out.",
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
        warm = random.permutation(warm)[:MOST]
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


def _draw(host: FigureBase, xy: Vectors, kind: NDArray[np.int64]) -> None:
    axis = _map(host, "all in one map", f"{len(xy):,} points")
    for one, (colour, marker, size) in enumerate(_LOOKS):
        x, y = xy[kind == one].T
        if len(x):
            axis.scatter(x, y, s=size, color=colour, marker=marker, alpha=0.75, linewidths=0, label=_KINDS[one])
    host.legend(loc="lower left", bbox_to_anchor=(-0.03, -0.01), ncols=3, markerscale=1.7, **_KEY)


def _pairs(host: FigureBase, ids: Vectors, own: Vectors) -> None:
    """ids, own: [n, 2] places of items by ID and by proxy, in random order."""
    axis = _map(host, "from ID to proxy", f"{min(len(ids), _PAIRS)} items: a short line where both agree")
    x, y = np.concatenate([ids, own]).T
    axis.scatter(x, y, s=4, color=MUTED, alpha=0.2, linewidths=0)
    for a, b in zip(ids[:_PAIRS], own[:_PAIRS], strict=True):
        axis.plot(*np.stack([a, b]).T, color=ACCENT, linewidth=0.8, alpha=0.55)
    for xy, (colour, marker, size) in zip((ids, own), _LOOKS, strict=False):
        x, y = xy[:_PAIRS].T
        axis.scatter(x, y, s=1.6 * size, color=colour, marker=marker, linewidths=0, zorder=3)


def _map(host: FigureBase, title: str, under: str) -> Axes:
    head(host, HEIGHT, title, under)
    axis = axes_of(host, HEIGHT, 2, 2, top=44, bottom=28)
    axis.set(xticks=[], yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    return axis
