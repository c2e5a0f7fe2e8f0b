"""What stage 1 has to beat, as files that the ranker reads in the place of coarse proxies.

    <run>/proxy/rivals/v2.parquet, ridge.parquet, ridge-even.parquet    item_id, vector [D]

Cross-fitted as the proxies are: an item's vector comes from a map that was not fitted to its ID. The paper's v1, the
content vectors themselves, are the file that these are made from.

Legend: N targets, H content width, D ID width.
"""

from pathlib import Path

import numpy as np

from proxy.baselines import Known, fit_all
from proxy.files import Files
from proxy.targets import read as read_targets
from recsys.config import Config
from recsys.content import vectors
from recsys.data.vectors import of as vectors_of
from recsys.files import replacing

_NAMES = {"v2": "v2", "ridge": "ridge", "ridge/even": "ridge-even"}


def write(config: Config, path: Path) -> Path:
    """Write the files for every item of a file of content vectors, in a stream, all of them or none; on one process.

    Raises:
        InputError: as `proxy.targets.read`, the file is not one of item vectors, or no target is in it.
    """
    targets = read_targets(config)
    x = vectors_of(path, targets.ids)
    at = np.flatnonzero(~np.isnan(x).any(axis=1))
    targets, x, options = targets.take(at), x[at], config.proxy.align
    targets.require(options)
    maps = {
        -1 if fold is None else fold: fit_all(Known(targets.without(fold), x), config.floor.ridge, options, _NAMES)
        for fold in options.every_fold
    }
    folder = Path(config.run) / "proxy" / "rivals"
    with replacing(folder) as partial, Files(partial) as files:
        for ids, content in vectors.read(path, targets.ids.type):
            fold = targets.folds_of(ids)
            guesses = {file: np.zeros((len(ids), targets.vectors.shape[1])) for file in _NAMES.values()}
            for k in np.unique(fold):
                for name, file in _NAMES.items():
                    guesses[file][fold == k] = maps[int(k)][name](content[fold == k])
            files.write(ids, guesses)
    return folder
