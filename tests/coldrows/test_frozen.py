"""Rows of E in place of the table's: scores and gradient as in plain PyTorch with one long table."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from recsys.coldrows.frozen import Frozen
from recsys.data.batch import Batch
from recsys.data.reader import Reader
from recsys.distributed import Ranks, process_group
from tests import arrived
from tests.coldrows import plainly

ITEMS = pa.concat_arrays([arrived.NEW, pa.array(["item 03", "item 11"])])
"""The new items, and two that training knew and that histories hold."""


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with process_group() as group:
        yield group


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, ranks: Ranks) -> Path:
    folder = arrived.write(tmp_path_factory.mktemp("frozen"))
    arrived.run(arrived.config(folder), ranks)
    return folder


def test_nothing_beyond_the_table_is_looked_up(home: Path, ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = Frozen.load(arrived.config(home), ITEMS, ranks)
    asked = []
    shipped = frozen._ranker.look_up

    def spy(batch: Batch) -> tuple[Tensor, ...]:
        asked.append(batch.items.values())
        return shipped(batch)

    monkeypatch.setattr(frozen._ranker, "look_up", spy)
    batches = list(Reader(frozen.encoder, "test", 16).epoch())
    for batch in batches:
        frozen.logits(batch, torch.zeros(len(ITEMS), 8))
    assert max(int(batch.items.values().max()) for batch in batches) >= 27, "the table has 27 rows"
    assert 0 < torch.cat(asked).max() < 27


def test_scores_and_gradient_are_those_of_a_longer_table(home: Path, ranks: Ranks) -> None:
    frozen = Frozen.load(arrived.config(home), ITEMS, ranks)
    rows = torch.randn(len(ITEMS), 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    reference, place = plainly.lengthened(frozen, ITEMS, rows.detach())
    assert place[: len(arrived.NEW)].min() == 27, "the table has 27 rows: new items lie beyond it"
    table = reference.tables["item_id"]
    beyond = in_history = 0
    for batch in Reader(frozen.encoder, "test", 16).epoch():
        logits, expected = frozen.logits(batch, rows), reference.logits(batch)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        (gradient,) = torch.autograd.grad((logits * batch.weight).sin().sum(), rows)
        (wanted,) = torch.autograd.grad((expected * batch.weight).sin().sum(), table)
        torch.testing.assert_close(gradient, wanted[place], atol=1e-4, rtol=1e-4)
        values = batch.items.values().numpy()
        beyond += int((values[:16] >= 27).sum())
        in_history += int(np.isin(values[16:], place).sum())
    assert beyond > 3 and in_history > 3


def test_place_tells_the_items_from_all_others(home: Path, ranks: Ranks) -> None:
    frozen = Frozen.load(arrived.config(home), ITEMS, ranks)
    items = frozen.encoder.maps["item_id"]
    others = pa.array(["item 00", "item 04", "nobody"])
    assert frozen.place(items.rows(pa.concat_arrays([others, ITEMS[::-1]]))).tolist() == [-1, -1, -1, 5, 4, 3, 2, 1, 0]
    assert frozen.count == len(ITEMS) == 6
