"""Rows of live tables: refusals, and training on from written rows under every sharding, against training by hand."""

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
from tests.tables.test_sharding import pieces_of, ranks_of, readers, start


def whole(sharded: Sharded, ranks: Ranks) -> dict[str, Tensor]:
    """Every table, by reading all shards of all ranks."""
    parts: list[live.Shards] = [[]] * ranks.world_size
    torch.distributed.all_gather_object(parts, live.shards(sharded)[0])
    return live.whole(parts)


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
            (torch.tensor([5]), torch.ones(1, dim), torch.tensor([torch.nan])),
            (torch.tensor([5]), torch.ones(1, dim), "drop"),
            (torch.tensor([5]), torch.ones(1, dim), "keep"),
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
        [
            "it has rows 0 to",
            "row -1",
            "twice",
            "row 3 is named twice",
            "row 5: expected a finite",
            "vectors",
            "row 5: expected optimizer state",
            "row 5: expected optimizer state",
            "optimizer_state 'drop': expected 'reset', 'keep' or a tensor",
            "not all ranks make the same call",
        ],
        strict=True,
    ):
        assert part in message


WRITTEN = torch.tensor([0, 1, 2])


def train_write_train(made: Config, tables: dict[str, Tensor], dense: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tables after two steps, a write of some rows of each between them (the second rank names the rows)."""
    with process_group() as ranks:
        encoder = fit(made)
        sharded = build(made, encoder, ranks)
        live.fill(sharded, tables, dense)
        rows = Rows(sharded, ranks)
        batches = readers(made, encoder, ranks.world_size)[ranks.rank].epoch(0)
        pipeline = TrainPipelineSparseDist(sharded.model, sharded.optimizer, ranks.device)
        sharded.scale_rates(1.0)
        pipeline.progress(batches)
        named = WRITTEN if ranks.rank == 1 else WRITTEN[:0]
        for name in tables:
            rows.write(name, named, *(each[: len(named)] for each in patch(name, tables)))
        pipeline.progress(batches)
        return whole(sharded, ranks)


def patch(name: str, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The vectors and states that are written into a table."""
    torch.manual_seed(len(name))
    return torch.randn(len(WRITTEN), tables[name].shape[1]) * 0.1, torch.rand(len(WRITTEN)) * 1e-4


@pytest.mark.parametrize("sharding", ["column_wise", "mixed", "hosts"])
def test_the_next_step_uses_the_written_row_and_its_state(tmp_path: Path, sharding: str) -> None:
    made = sharded_config(wide.write(tmp_path / "data"), sharding)
    encoder = fit(made)
    tables, dense = start(made, encoder)
    world_size, local = ranks_of(sharding)
    found = run_ranks(world_size, train_write_train, made, tables, dense.state_dict(), local_world_size=local)[0]
    plain = Plain(dense, tables, made.train, pieces_of(sharding, tables))
    steps = zip(*(reader.epoch(0) for reader in readers(made, encoder, world_size)), strict=True)
    plain.step(next(steps))
    for name in tables:
        vectors, state = patch(name, tables)
        with torch.no_grad():
            plain.tables[name][WRITTEN] = vectors
            plain.sums[name].view(plain.pieces[name], -1)[:, WRITTEN] = state
    plain.step(next(steps))
    for name, table in plain.tables.items():
        moved = (found[name][WRITTEN] - patch(name, tables)[0]).abs().amax(1)
        assert (moved > 1e-3).any(), f"the step touched a written row of {name}"
        torch.testing.assert_close(found[name], table.detach(), atol=2e-5, rtol=1e-3)
