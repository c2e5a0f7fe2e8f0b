"""How a look at the ID space is drawn: a map of all kinds of vectors (the paper's figure 1), and their cosines to IDs.

Legend: n items, m vectors on the map, D embedding width.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from proxy.space import COARSE, FINE, ID, PARTS, STAND_IN, UNKNOWN, Space, Vectors

_ITEMS, _VECTORS = 2000, 6000
"""On the map at most."""
_CATEGORIES = 8
_COLOURS = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255")
"""Of categories, the most frequent first: Paul Tol's muted scheme, told apart by colour-blind readers."""
_OTHER = "#bbbbbb"
_OF_KIND = {ID: "#000000", COARSE: "#e69f00", FINE: "#56b4e9", STAND_IN: "#cc3377"}
_TRAIN, _TEST, _NEW = PARTS.index("train"), PARTS.index("test"), PARTS.index("new")


@dataclass(frozen=True)
class Map:
    """m vectors laid into the plane, those nearest in direction next to each other.

    Attributes:
        kind: [m]. item: [m] positions of their items in the space.
        vectors: [m, D] float32, as they are.
        xy: [m, 2] float32.
    """

    kind: NDArray[np.str_]
    item: NDArray[np.int64]
    vectors: Vectors
    xy: Vectors


def arrange(found: Space, seed: int) -> Map:
    """t-SNE of all kinds of vectors of at most 2,000 items in one map; the same for the same space and seed.

    Of directions alone: stage 1 learns no lengths. About half a minute for the most of vectors.
    """
    shown = {kind: vectors for kind, vectors in found.vectors.items() if kind != UNKNOWN}
    items = min(len(found.part), _ITEMS, _VECTORS // len(shown))
    at = {kind: np.flatnonzero(~np.isnan(vectors[:items, 0])) for kind, vectors in shown.items()}
    vectors = np.concatenate([shown[kind][at[kind]] for kind in shown])
    kind = np.concatenate([np.full(len(at[kind]), kind) for kind in shown])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    sne = TSNE(perplexity=min(30.0, (len(unit) - 1) / 3), init="pca", max_iter=500, random_state=seed)
    with threadpool_limits(1):  # more threads add up in another order each time
        xy = sne.fit_transform(unit)
    return Map(kind, np.concatenate([*at.values()]), vectors, xy)


def tsne(found: Space, drawn: Map) -> Figure:
    """The map by kind, and once a kind by category: where colours lie alike, kinds agree."""
    kinds = [kind for kind in found.vectors if (drawn.kind == kind).any()]
    figure = Figure(figsize=(4.4 * (len(kinds) + 1), 5.6), layout="constrained", dpi=120)
    axes = figure.subplots(1, len(kinds) + 1, sharex=True, sharey=True)
    for kind in kinds:
        _dots(axes[0], drawn.xy[drawn.kind == kind], _OF_KIND[kind], _title(kind)[0])
    axes[0].set_title("all in one map\nnearer dots: more alike in direction")
    axes[0].legend(markerscale=3, fontsize="small", framealpha=0.9)
    names = _frequent(found)
    category = np.array(found.items["category"].to_pylist())[drawn.item]
    new = found.part[drawn.item] == _NEW
    for axis, kind in zip(axes[1:], kinds, strict=True):
        here = drawn.kind == kind
        axis.set_title("\n".join(_title(kind)))
        _dots(axis, drawn.xy[~here], "#eeeeee", None)
        for name, colour in [("", _OTHER), *zip(names, _COLOURS, strict=False)]:
            chosen = here & (category == name if name else ~np.isin(category, names))
            _dots(axis, drawn.xy[chosen & ~new], colour, name or "other")
            _dots(axis, drawn.xy[chosen & new], colour, None, "^")
    _dots(axes[-1], drawn.xy[:0], _OTHER, "new item, without training rows", "^")
    entries = axes[-1].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=5, markerscale=3, frameon=False)
    return figure


def cosines(found: Space) -> Figure:
    """Lengths by kind, and for each kind the cosine to the item's own ID beside that to another item's."""
    kinds = [kind for kind in (COARSE, FINE, STAND_IN) if kind in found.vectors]
    figure = Figure(figsize=(5 * (len(kinds) + 1), 5), layout="constrained", dpi=120)
    axes = figure.subplots(1, len(kinds) + 1)
    _lengths(axes[0], found)
    for axis, kind in zip(axes[1:], kinds, strict=True):
        _cosines(axis, found, kind)
    return figure


def _cosines(axis: Axes, found: Space, kind: str) -> None:
    bins = np.linspace(-1, 1, 21).tolist()
    other = _known(found.cosine_to_another(kind).reshape(-1))
    axis.hist(other, bins, density=True, color="#dddddd", label="to the IDs of other items: chance")
    learned = "left out by the encoder of their fold" if found.folds else "learned from"
    for part, colour, name in ((_TRAIN, "#0072b2", learned), (_TEST, "#d55e00", "left out of stage 1")):
        values = _known(found.cosine(kind)[found.part == part])
        if len(values):
            label = f"{name}: median {np.median(values):.2f}, {len(values):,} items"
            axis.hist(values, bins, density=True, histtype="step", linewidth=2, color=colour, label=label)
    lines = [(found.cosine(UNKNOWN), ":", "the unknown row in its place")]
    if kind == STAND_IN:
        lines.append((found.cosine_to_row(kind), "--", "to the ID without the part that both share"))
    for values, style, name in lines:
        median = np.median(_known(values))
        axis.axvline(float(median), color="#000000", linestyle=style, label=f"{name}: median {median:.2f}")
    axis.set(title="\n".join(_title(kind)), xlabel="cosine to the item's true ID (1: the same direction)")
    axis.set(ylabel="density of items", xlim=(-1, 1), xticks=[-1, -0.5, 0, 0.5, 1])
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize="small")


def _lengths(axis: Axes, found: Space) -> None:
    rows, labels, colours = [], [], []
    for kind in found.vectors:
        for name, here in (("known", found.part != _NEW), ("new", found.part == _NEW)):
            values = _known(found.length(kind)[here])
            if len(values) and kind != UNKNOWN:
                rows.append(values)
                labels.append(f"{_title(kind)[0]}\n({name}, {len(values):,})")
                colours.append(_OF_KIND[kind])
    drawn = axis.boxplot(rows, orientation="horizontal", tick_labels=labels, showfliers=False, widths=0.6)
    for colour, median, box in zip(colours, drawn["medians"], drawn["boxes"], strict=True):
        median.set(color=colour, linewidth=3)
        box.set(color=colour)
    axis.invert_yaxis()
    axis.set(title="how long the vectors are\nmedian, quartiles and range", xlabel="length (Euclidean norm)")
    axis.set_xlim(left=0)


def _title(kind: str) -> tuple[str, str]:
    """What a kind is, and what made it."""
    return {
        ID: ("true IDs", "of warm items: what clicks have taught"),
        COARSE: ("coarse proxies", "content, trained to point as the ID does"),
        FINE: ("fine proxies", "content, trained on clicks to be of use"),
        STAND_IN: ("stand-ins", "items as if new: the unknown row and proxies"),
    }[kind]


def _frequent(found: Space) -> list[str]:
    counts = Counter(filter(None, found.items["category"].to_pylist()))
    return [name for name, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_CATEGORIES]]


def _known(values: Vectors) -> Vectors:
    return values[~np.isnan(values)]


def _dots(axis: Axes, xy: Vectors, colour: str, label: str | None, marker: str = "o") -> None:
    axis.scatter(xy[:, 0], xy[:, 1], s=14 if marker == "^" else 8, c=colour, marker=marker, linewidths=0, label=label)
    axis.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
