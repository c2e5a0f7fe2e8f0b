"""Rows of E in a ranker with proxies: they stand for ID vectors alone, and content stays what it is."""

from pathlib import Path

import pyarrow as pa
import torch

from recsys.coldrows.frozen import Frozen
from recsys.data.encode import ITEM, Encoder
from recsys.data.reader import Reader
from recsys.distributed import process_group
from recsys.model.ranker import Ranker
from recsys.train import train
from tests import contents, wide
from tests.tables.test_item_content import config

ITEMS = pa.array(["item 01", "item 28"])
"""One that training knew, and a new one; both have content."""


def test_the_rows_that_items_have_anyway_change_nothing(tmp_path: Path) -> None:
    wide.write(tmp_path / "data")
    contents.write(tmp_path)
    made = config(tmp_path, lr=0.02, hide_ids=0.3)
    with process_group() as ranks:
        train(made, ranks)
        frozen = Frozen.load(made, ITEMS, ranks)
        encoder = Encoder.load(made, Path(made.run) / "encoder")
        rows = frozen.vectors(encoder.maps[ITEM].rows(ITEMS)).requires_grad_()
        ranker: Ranker = frozen._ranker
        both = zip(Reader(encoder, "test", 16).epoch(), Reader(frozen.encoder, "test", 16).epoch(), strict=True)
        met = torch.zeros(2)
        for batch, with_rows in both:
            logits = frozen.logits(with_rows, rows)
            with torch.no_grad():
                torch.testing.assert_close(logits, ranker(batch))
            (gradient,) = torch.autograd.grad(logits.sum(), rows)
            met += gradient.abs().sum(1)
        assert met.min() > 0, "each of them was met"
        del frozen, ranker
