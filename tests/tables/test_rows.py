"""Rows of live tables under every sharding, against a plain dictionary of rows and against training by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from recsys.config import Config
from recsys.data.fit import fit
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.tables.rows import Rows
from recsys.tables.sharding import Sharded
from recsys.train import build
from tests import live, tiny, wide
from tests.plain import Plain
from tests.ranks import run_ranks
from tests.tables import saved
from tests.tables.test_sharding import config as sharded_config
from tests.tables.test_sharding import readers, start

ROUNDS = 12


def whole(sharded: Sharded, ranks: Ranks) -> dict[str, Tensor]:
    """Every table, by reading all shards of all ranks."""
    parts: list[live.Shards] = [[]] * ranks.world_size
    torch.distributed.all_gather_object(parts, live.shards(sharded)[0])
    return live.whole(parts)


def at_random(made: Config) -> int:
    """Reads and writes of random rows, each rank its own, against a copy of the tables; how many rows were written."""
    with process_group() as ranks:
        sharded = build(made, fit(made), ranks)
        rows, reference, written = Rows(sharded, ranks), whole(sharded, ranks), 0
        state = {name: torch.zeros(len(table)) for name, table in reference.items()}
        shared, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(ranks.rank)
        for _ in range(ROUNDS):
            name = sorted(reference)[int(torch.randint(len(reference), (), generator=shared))]
            count, dim = reference[name].shape
            # Every rank knows what every rank writes; each names its own part of it, which may be none.
            order = torch.randperm(count, generator=shared)[: int(torch.randint(count, (), generator=shared))]
            values, sums = torch.randn(len(order), dim, generator=shared), torch.rand(len(order), generator=shared)
            mine = torch.arange(len(order)) % (ranks.world_size + 1) == ranks.rank
            kept = torch.arange(len(order)) % (ranks.world_size + 1) < ranks.world_size
            how = ("reset", "keep", sums[mine])[int(torch.randint(3, (), generator=shared))]
            rows.write(name, order[mine], values[mine], how)  # type: ignore[arg-type]
            reference[name][order[kept]] = values[kept]
            if isinstance(how, Tensor):
                state[name][order[kept]] = sums[kept]
            elif how == "reset":
                state[name][order[kept]] = 0.0
            written += int(kept.sum())
            asked = torch.randint(count, (7 * ranks.rank,), generator=own)
            vectors, found = rows.read(name, asked)
            assert torch.equal(vectors, reference[name][asked])
            torch.testing.assert_close(found, state[name][asked])
        after = whole(sharded, ranks)
        assert all(torch.equal(after[name], table) for name, table in reference.items())
        return written


@pytest.mark.parametrize("sharding", saved.SHARDINGS)
def test_rows_are_as_in_a_dictionary(sharding: str, tmp_path: Path) -> None:
    tiny.write(tmp_path / "data")
    results = run_ranks(2, at_random, saved.config(tmp_path, sharding))
    assert results[0] == results[1] > 50


def refused(made: Config) -> list[str]:
    """What each bad write says on this rank, where only the second rank's part of it is bad; nothing is written."""
    with process_group() as ranks:
        sharded = build(made, fit(made), ranks)
        rows, before = Rows(sharded, ranks), whole(sharded, ranks)
        count, dim = before["item_id"].shape
        good = torch.tensor([3 + ranks.rank]), torch.ones(1, dim), "reset"
        bad = [
            (torch.tensor([count]), torch.ones(1, dim), "reset"),
            (torch.tensor([-1]), torch.ones(1, dim), "reset"),
            (torch.tensor([5, 5]), torch.ones(2, dim), "reset"),
            (torch.tensor([3]), torch.ones(1, dim), "reset"),  # the first rank's row
            (torch.tensor([5]), torch.full((1, dim), torch.nan), "reset"),
            (torch.tensor([5]), torch.ones(1, dim - 1), "reset"),
            (torch.tensor([5]), torch.ones(1, dim), torch.tensor([-1.0])),
        ]
        said = []
        for attempt in bad:
            with pytest.raises(InputError) as error:
                rows.write("item_id", *(attempt if ranks.rank else good))  # type: ignore[arg-type]
            said.append(str(error.value))
        with pytest.raises(InputError, match="table 'nothing': expected one of"):
            rows.read("nothing", torch.tensor([0]))
        after = whole(sharded, ranks)
        assert all(torch.equal(after[name], table) for name, table in before.items())
        return said


def test_a_bad_row_of_one_rank_changes_nothing_on_any(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data")
    first, second = run_ranks(2, refused, saved.config(tmp_path, "row_wise"))
    assert first == second
    for message, part in zip(
        first,
        ["it has rows 0 to", "row -1", "twice", "row 3 is named twice", "row 5: expected a finite", "vectors", "state"],
        strict=True,
    ):
        assert part in message


WRITTEN = torch.tensor([0, 1, 2, 5, 9])


def train_write_train(made: Config, tables: dict[str, Tensor], dense: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tables after two steps, a write of some item rows between them (the second rank names the rows)."""
    with process_group() as ranks:
        encoder = fit(made)
        sharded = build(made, encoder, ranks)
        live.fill(sharded, tables, dense)
        rows = Rows(sharded, ranks)
        batches = readers(made, encoder, ranks.world_size)[ranks.rank].epoch(0)
        pipeline = TrainPipelineSparseDist(sharded.model, sharded.optimizer, ranks.device)
        sharded.set_rates(made.train.lr, made.train.table_lr)
        pipeline.progress(batches)
        named = WRITTEN if ranks.rank else WRITTEN[:0]
        rows.write("item_id", named, *(each[: len(named)] for each in patch(tables)))
        pipeline.progress(batches)
        return whole(sharded, ranks)


def patch(tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The vectors and states that are written."""
    torch.manual_seed(3)
    return torch.randn(len(WRITTEN), tables["item_id"].shape[1]) * 0.1, torch.rand(len(WRITTEN)) * 1e-4


def test_the_next_step_uses_the_written_row_and_its_state(tmp_path: Path) -> None:
    made = sharded_config(wide.write(tmp_path / "data"), "mixed")
    encoder = fit(made)
    tables, dense = start(made, encoder)
    found = run_ranks(2, train_write_train, made, tables, dense.state_dict())[0]
    plain = Plain(dense, tables, made.train)
    steps = zip(*(reader.epoch(0) for reader in readers(made, encoder, 2)), strict=True)
    plain.step(next(steps))
    vectors, state = patch(tables)
    with torch.no_grad():
        plain.tables["item_id"][WRITTEN] = vectors
        plain.sums["item_id"][WRITTEN] = state
    plain.step(next(steps))
    moved = (found["item_id"][WRITTEN] - vectors).abs().amax(1)
    assert (moved > 1e-3).any(), "the step touched a written row"
    for name, table in plain.tables.items():
        torch.testing.assert_close(found[name], table.detach(), atol=2e-5, rtol=1e-3)
