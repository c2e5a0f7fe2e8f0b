"""Row `auc`: rows a second of the streamed AUC on 20 million rows in batches, against sklearn on the whole arrays.

Ours holds `EXACT` rows and the bins, however many rows there are; sklearn holds and sorts them all. `detail` tells how
far apart the two are and what ours vouches for.
"""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from recsys.bench.frame import Measured, alternated
from recsys.config import Config
from recsys.distributed import Ranks
from recsys.evaluate.streamed import Auc, StreamedAuc

ROWS, ROUNDS = 20_000_000, 3
REQUIRED = 1.0


def measure(config: Config, ranks: Ranks) -> Measured:
    """Rates on one rank; it needs nothing of the config but the size of a batch while scoring."""
    return compare(ROWS, config.evaluate.batch_size, ROUNDS)


def compare(rows: int, batch: int, rounds: int) -> Measured:
    """Rates in rows a second."""
    random = np.random.default_rng(0)
    logit = random.normal(-1.5, 1.0, rows).astype(np.float32)
    score = 1.0 / (1.0 + np.exp(-logit))
    label = (random.random(rows, np.float32) < score).astype(np.int8)
    found: dict[str, Auc] = {}

    def ours() -> None:
        area = StreamedAuc()
        for start in range(0, rows, batch):
            some = slice(start, start + batch)
            area.update(torch.from_numpy(score[some]), torch.from_numpy(label[some]))
        found["ours"] = area.compute()

    def sklearn() -> None:
        found["sklearn"] = Auc(float(roc_auc_score(label, score)), 0.0)

    detail: dict[str, float] = {"rows": rows, "batch": batch}
    row = alternated({"ours": ours, "sklearn": sklearn}, rows, "rows/s", REQUIRED, rounds, detail)
    detail |= {"apart": abs(found["ours"].value - found["sklearn"].value), "error at most": found["ours"].error}
    return row
