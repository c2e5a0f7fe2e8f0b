"""Fine-tuning: the optimum of the stated objective, nothing else moved, the same on any ranks, and it ends."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import Prior, unknown_prior
from recsys.coldrows.tune import Tuned, finetune
from recsys.data.batch import Batcher
from recsys.data.reader import take
from recsys.distributed import process_group
from recsys.floor.kept import kept_rows
from tests import arrived, live
from tests.ranks import run_ranks

LOOSE = {"strength": 1.0, "tolerance": 1e-4, "max_passes": 100, "batch_size": 6}
TIGHT = {**LOOSE, "tolerance": 1e-9}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = arrived.write(tmp_path_factory.mktemp("tune"))
    with process_group() as ranks:
        arrived.run(arrived.config(folder), ranks)
    return folder


def tune(home: Path, options: dict) -> tuple[Tuned, Prior]:
    """By all kept rows, dealt to the ranks."""
    return tuned_by(home, options, ["dealt"])[0]


def tuned_by(home: Path, options: dict, ways: list[str]) -> list[tuple[Tuned, Prior]]:
    """By all kept rows, `dealt` to the ranks or all on the `first`."""
    found = []
    with process_group() as ranks:
        frozen = Frozen.load(arrived.config(home), arrived.NEW, ranks)
        prior = unknown_prior(frozen)
        before = live.shards(frozen._sharded)
        for way in ways:
            place = (ranks.rank, ranks.world_size) if way == "dealt" else (0, 1)
            block = kept_rows(frozen.encoder, arrived.KEPT, *place)
            assert block is not None
            if way == "first" and not ranks.is_first:
                block = take(block, np.arange(0))
            found.append((finetune(frozen, block, prior, **options), prior))
        after = live.shards(frozen._sharded)
        for (name, _, old), (_, _, new) in zip(before[0], after[0], strict=True):
            assert torch.equal(old, new), f"table {name} changed"
        assert all(torch.equal(before[1][name], after[1][name]) for name in before[1])
    return found


def test_it_ends_where_the_objective_is_flat(home: Path) -> None:
    tuned, prior = tune(home, TIGHT)
    assert tuned.converged and tuned.passes >= tuned.steps > 2 and tuned.examples == 20
    with process_group() as ranks:
        frozen = Frozen.load(arrived.config(home), arrived.NEW, ranks)
        block = kept_rows(frozen.encoder, arrived.KEPT, 0, 1)
        assert block is not None
        batch = Batcher(frozen.encoder, len(block)).cut(block)
        inverse = torch.linalg.inv(prior.factor() @ prior.factor().T)

        def objective(rows: Tensor) -> Tensor:
            away = (rows - prior.start).double()
            data = binary_cross_entropy_with_logits(frozen.logits(batch, rows), batch.label, reduction="sum")
            return data.double() + torch.einsum("kd,de,ke->", away, inverse, away) / 2

        slopes = []
        for rows in (prior.start, tuned.rows):
            rows = rows.clone().requires_grad_()
            objective(rows).backward()
            assert rows.grad is not None
            slopes.append((rows.grad.double() @ prior.factor()).norm().item())
        assert slopes[1] < 0.02 * slopes[0]
        assert objective(tuned.rows) < objective(prior.start) - 0.1


def test_two_ranks_equal_one(home: Path) -> None:
    (alone, prior), (again, _) = tune(home, TIGHT), tune(home, TIGHT)
    assert torch.equal(alone.rows, again.rows), "it is deterministic"
    ranks = run_ranks(2, tuned_by, home, TIGHT, ["dealt", "first"])
    for (first, _), (second, _) in zip(*ranks, strict=True):
        assert torch.equal(first.rows, second.rows)
        torch.testing.assert_close(first.rows, alone.rows, atol=5e-3, rtol=0)
    assert (alone.rows - prior.start).abs().max() > 0.1


def test_a_loose_tolerance_stops_earlier_and_a_cap_says_so(home: Path) -> None:
    tight, prior = tune(home, TIGHT)
    loose, _ = tune(home, LOOSE)
    assert loose.converged and loose.steps < tight.steps
    capped, _ = tune(home, {**TIGHT, "max_passes": 2})
    assert not capped.converged and capped.passes < tight.passes
    held, _ = tune(home, {**TIGHT, "strength": 1e6})
    torch.testing.assert_close(held.rows, prior.start, atol=1e-3, rtol=0)


def test_the_prior_is_the_spread_of_warm_items_around_the_unknown_row(home: Path) -> None:
    with process_group() as ranks:
        frozen = Frozen.load(arrived.config(home), arrived.NEW, ranks)
        prior = unknown_prior(frozen)
        counts = frozen.encoder.maps["item_id"].counts[:26]
        table = frozen.vectors(np.arange(27))
    assert torch.equal(prior.start, table[:1].expand(4, 8))
    expected = np.cov(table[1:].numpy(), rowvar=False, fweights=counts, ddof=0)
    np.testing.assert_allclose(prior.covariance.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose((prior.factor() @ prior.factor().T).numpy(), expected, atol=2e-3 * np.trace(expected))
