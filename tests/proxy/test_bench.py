"""The bench's row of generation, on a tiny encoder."""

from pathlib import Path

import torch

from proxy import bench, encoder
from proxy.kept import Kept
from proxy.model import Aligner
from recsys.config_proxy import Align, ContentEncoder
from tests.proxy import models


def test_the_row_measures_the_batch_path_and_the_bare_forward(tmp_path: Path) -> None:
    name = str(models.llama(tmp_path / "llama"))
    options = ContentEncoder(kind="text", name=name, template="{title}. {text}", batch_size=4, bf16=False)
    model = Aligner(encoder.load(options), 8, Align()).eval()
    row = bench.compare(Kept(model, options, [[0], [1]]), items=10, rounds=2, calls=3)
    assert set(row.rates) == {"ours", "forward"} and [len(each) for each in row.rates.values()] == [2, 2]
    assert row.detail["one item, ms"] > 0 and row.detail["tokens an item"] > 10
    assert torch.is_grad_enabled()
