"""A trial of the ranker: a run of its own, trained as `tools.train` does."""

import gc
from pathlib import Path

from recsys.config import Config
from recsys.distributed import Ranks, of_first
from recsys.predict import predict
from recsys.search import judge
from recsys.train import train


def objective(config: Config, ranks: Ranks) -> float:
    """Train in `config.run`, or go on there, and judge the best checkpoint on split=valid. Collective.

    Raises:
        InputError: training failed, or the metric is no number on these rows.
    """
    progress = train(config, ranks)
    try:
        if config.search.metric == "auc":
            return progress.best_auc
        folder = predict(config, "valid", ranks)
        return of_first(ranks, lambda: judge.value(Path(config.data.path), "valid", folder, config.search.metric))
    finally:
        gc.collect()  # a trial's tables lie in a circle of references, and the next trial makes others of the same size
