"""A look at the ID space: do content's vectors lie where clicks have put the items? Pictures, and the numbers in them.

    <run>/proxy/look/tsne.png      t-SNE of all kinds of vectors in one map, coloured by kind and by category
    <run>/proxy/look/cosines.png   lengths, and cosines to the item's own ID beside those to another item's
    <run>/proxy/look/look.json     medians of these: {"medians": {kind: {part: {"items", "length", "cosine",
                                   "cosine_to_another", "cosine_to_row"}}}}
    <run>/logs/look/               both pictures for TensorBoard, and the vectors of the map for its projector

A cosine is null where no item of the part has an ID; `cosine_to_row` is there for a slot. Kinds and parts are those of
`proxy.space`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from proxy import figures, space
from proxy.figures import Map
from proxy.space import PARTS, STAND_IN, Space
from recsys.config import Config
from recsys.files import replacing
from recsys.runs import bring_up
from recsys.tables.locks import reading


def folder_of(config: Config) -> Path:
    """Where a run's pictures are."""
    return Path(config.run) / "proxy" / "look"


def look(config: Config) -> dict[str, Any]:
    """Draw and write all of the above, the folder whole or not at all; what look.json tells. On one process.

    Raises:
        InputError: no run of this config, or as `proxy.space.read`.
    """
    bring_up(config)
    with reading(Path(config.run)):
        found = space.read(config)
    drawn = figures.arrange(found, config.proxy.align.seed)
    told = {"tables": found.tables, "aligned_to": found.aligned_to, "folds": found.folds, "medians": medians(found)}
    pictures = {"tsne": figures.tsne(found, drawn), "cosines": figures.cosines(found)}
    with replacing(folder_of(config)) as partial:
        partial.mkdir()
        for name, picture in pictures.items():
            picture.savefig(partial / f"{name}.png")
        (partial / "look.json").write_text(json.dumps(told, indent=1) + "\n")
    with replacing(Path(config.run) / "logs" / "look") as partial:
        log(found, drawn, pictures, partial)
    return told


def medians(found: Space) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """By kind and part: items with such a vector, the median of its length and of its cosines."""
    told: dict[str, dict[str, dict[str, float | int | None]]] = {}
    for kind in found.vectors:
        measured = {
            "length": found.length(kind),
            "cosine": found.cosine(kind),
            "cosine_to_another": found.cosine_to_another(kind),
        }
        if STAND_IN in found.vectors:
            measured["cosine_to_row"] = found.cosine_to_row(kind)
        for k, part in enumerate(PARTS):
            here = (found.part == k) & ~np.isnan(measured["length"])
            if here.any():
                values = {name: _median(each[here]) for name, each in measured.items()}
                told.setdefault(kind, {})[part] = {"items": int(here.sum()), **values}
    return told


def table(told: dict[str, Any]) -> Table:
    """The medians that `look` tells, as a table."""
    columns = ["items", "length", "cosine", "cosine_to_another"]
    columns += ["cosine_to_row"] if STAND_IN in told["medians"] else []
    made = Table(title="medians of vectors, by kind and part", caption="cosines: to the item's own true ID, to others'")
    for name in ("", "", *columns):
        made.add_column(name.replace("_", " "), justify="right" if name else "left")
    for kind, parts in told["medians"].items():
        for part, values in parts.items():
            made.add_row(kind, part, *(_cell(values[name]) for name in columns))
    return made


def log(found: Space, drawn: Map, pictures: dict[str, Figure], folder: Path) -> None:
    """Write TensorBoard's events and the projector's files into an empty folder."""
    with SummaryWriter(str(folder)) as writer:
        for name, picture in pictures.items():
            writer.add_figure(f"look/{name}", picture, close=False)
        items = found.items.take(drawn.item)
        parts = [PARTS[k] for k in found.part[drawn.item]]
        columns = [items["title"].to_pylist(), items["category"].to_pylist(), drawn.kind.tolist(), parts]
        # One row a line, one column a tab: whatever a title holds.
        rows = [[" ".join(text.split()) for text in row] for row in zip(*columns, strict=True)]
        writer.add_embedding(drawn.vectors, rows, tag="look", metadata_header=["title", "category", "kind", "part"])


def _median(values: NDArray[np.float32]) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(np.median(known)), 4) if len(known) else None


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
