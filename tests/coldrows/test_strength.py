"""The prior's strength is the one under which rows left out are likeliest, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import unknown_prior
from recsys.coldrows.strength import Strengths, finetune_chosen
from recsys.coldrows.tune import Tuned, finetune
from recsys.data.batch import Batcher
from recsys.data.encode import Block
from recsys.data.reader import take
from recsys.data.splits import keys_at
from recsys.distributed import process_group
from recsys.floor.kept import kept_rows
from tests import arrived
from tests.ranks import run_ranks

TRIED = [0.1, 1.0, 30.0]
OPTIONS = Strengths(TRIED, tolerance=1e-6, max_passes=60, batch_size=32)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = arrived.write(tmp_path_factory.mktemp("strength"))
    with process_group() as ranks:
        arrived.run(arrived.config(folder), ranks)
    return folder


def chosen(home: Path, options: Strengths) -> tuple[Tuned, dict[str, float]]:
    with process_group() as ranks:
        frozen = Frozen.load(arrived.config(home), arrived.NEW, ranks)
        block = kept_rows(frozen.encoder, arrived.KEPT, ranks.rank, ranks.world_size)
        assert block is not None
        return finetune_chosen(frozen, block, unknown_prior(frozen), options)


def test_left_out_rows_decide(home: Path) -> None:
    tuned, losses = chosen(home, OPTIONS)
    with process_group() as ranks:
        frozen = Frozen.load(arrived.config(home), arrived.NEW, ranks)
        block, prior = kept_rows(frozen.encoder, arrived.KEPT, 0, 1), unknown_prior(frozen)
        assert block is not None
        half = keys_at(block.row_id, 0, 5) % np.uint64(2) == 0
        assert 0 < half.sum() < len(half)

        def fitted(rows: Block, strength: float) -> torch.Tensor:
            return finetune(
                frozen, rows, prior, strength=strength, tolerance=1e-7, max_passes=100, batch_size=len(rows)
            ).rows

        def loss(rows: Block, vectors: torch.Tensor) -> float:
            batch = Batcher(frozen.encoder, len(rows)).cut(rows)
            return float(log_loss(rows.label, frozen.logits(batch, vectors).sigmoid(), normalize=False))

        first, second = (take(block, np.flatnonzero(at)) for at in (half, ~half))
        expected = {
            strength: (loss(first, fitted(second, strength)) + loss(second, fitted(first, strength))) / len(block)
            for strength in TRIED
        }
        best = min(TRIED, key=expected.__getitem__)
        # The objective is flat where the prior is weak: the same optimum to a part in a hundred.
        assert losses == pytest.approx({str(strength): value for strength, value in expected.items()}, abs=5e-3)
        assert loss(block, fitted(block, best)) / len(block) < expected[best] - 0.02, (
            "rows that are fitted are likelier"
        )
        torch.testing.assert_close(tuned.rows, fitted(block, best), rtol=0, atol=0.05)


def test_one_strength_is_not_searched_for(home: Path) -> None:
    tuned, losses = chosen(home, Strengths([0.3], 1e-9, 100, 6))
    assert losses == {} and tuned.passes < 60


def test_two_ranks_choose_alike(home: Path) -> None:
    alone = chosen(home, OPTIONS)
    for tuned, losses in run_ranks(2, chosen, home, OPTIONS):
        assert losses == pytest.approx(alone[1], abs=5e-3)
        torch.testing.assert_close(tuned.rows, alone[0].rows, rtol=0, atol=0.05)
