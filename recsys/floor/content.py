"""From content to a prior of new items' ID vectors: the ridge fitted on warm items, predicted for the others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import Prior
from recsys.config import Config
from recsys.content import vectors
from recsys.content.encoder import MINILM, minilm
from recsys.data.encode import ITEM
from recsys.data.ids import IdMap
from recsys.data.schema import read_info
from recsys.data.splits import keys_at
from recsys.distributed import Ranks, on_first
from recsys.errors import InputError
from recsys.floor.ridge import FOLDS, Matrix, Ridge, fit, moments
from recsys.storage import at


def content_file(config: Config, ranks: Ranks) -> Path:
    """The user's vectors, or MiniLM's of the items' texts, made once for a dataset and kept in the run. Collective."""
    if config.floor.content:
        return Path(config.floor.content)
    dataset = at(config.data.path)
    fingerprint = read_info(dataset).fingerprint
    path = Path(config.run) / "floor" / "content" / f"{MINILM}-{fingerprint[:16]}.parquet"

    def make() -> None:
        # A dataset that tools.prepare did not make has no fingerprint, and may have changed.
        if not (fingerprint and path.exists()):
            vectors.write(dataset, minilm(str(ranks.device)), path)

    on_first(ranks, make)
    return path


def ridge_prior(frozen: Frozen, path: Path, grid: list[float]) -> tuple[Prior, Ridge]:
    """A prior whose start is predicted from the content vectors of `path`, with the errors' covariance. Collective.

    An item that has no vector starts at the warm items' mean.

    Raises:
        InputError: the file is not as it should be, or too few items with training rows have a vector.
    """
    items = frozen.encoder.maps[ITEM]
    found = fit(*warm_moments(path, items, lambda rows: frozen.vectors(rows).double().cpu().numpy()), grid)
    start = np.tile(found.mean_y, (frozen.count, 1))
    for ids, x in vectors.read(path, items.ids.type):
        place = frozen.place(items.rows(ids))
        start[place[place >= 0]] = found(x[place >= 0])
    return Prior(torch.from_numpy(start).float().to(frozen.ranks.device), torch.from_numpy(found.residual)), found


def warm_moments(
    path: Path, items: IdMap, vectors_of: Callable[[NDArray[np.int64]], Matrix]
) -> tuple[list[Matrix], int]:
    """Moments of the warm items by fold, drawn by item, and H.

    path: content vectors. items: their counts are the weights, above 0 for warm items. vectors_of: ID vectors [n, D] of
        rows [n] of `items`.

    Raises:
        InputError: the file is not as it should be, or too few warm items have a vector there.
    """
    counts = np.append(0, items.counts)
    folds: list[Matrix] = []
    width = 0
    for ids, x in vectors.read(path, items.ids.type):
        rows = items.rows(ids)
        warm = counts[rows] > 0
        if not warm.any():
            continue
        x, rows, width = x[warm], rows[warm], x.shape[1]
        y = vectors_of(rows)
        fold = keys_at(rows, 0) % np.uint64(FOLDS)
        parts = [moments(x[fold == k], y[fold == k], counts[rows[fold == k]].astype(float)) for k in range(FOLDS)]
        folds = [before + part for before, part in zip(folds, parts, strict=True)] if folds else parts
    if not folds:
        raise InputError(f"{path}: no item with training rows has a content vector there")
    if np.count_nonzero([fold[0, 0] for fold in folds]) < 2:
        raise InputError(
            f"{path}: all items with training rows and a content vector fall into one of {FOLDS} folds: expected more "
            "such items, so that some can be left out to choose the penalty"
        )
    return folds, width
