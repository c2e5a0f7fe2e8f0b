"""How well anybody can do on a generated log: what the chances that its clicks were drawn by would score."""

from pathlib import Path

import pyarrow.parquet as pq
import torch

from recsys.evaluate.streamed import Auc, StreamedAuc
from recsys.generate.write import part


def bayes_auc(root: Path, day: int) -> Auc:
    """AUC of a day's own chances of a click, which no ranker beats but by luck; streamed by row group."""
    area = StreamedAuc()
    with pq.ParquetFile(part(root, "truth", day)) as truth, pq.ParquetFile(part(root, "interactions", day)) as rows:
        for group in range(truth.num_row_groups):
            chance = truth.read_row_group(group)["chance"].to_numpy()
            clicked = rows.read_row_group(group, columns=["clicked"])["clicked"].to_numpy()
            area.update(torch.tensor(chance), torch.tensor(clicked))
    return area.compute()
