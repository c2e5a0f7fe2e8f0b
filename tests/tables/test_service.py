"""A run brought up to its log: checkpoint, id maps and bundle hold the same rows, and score as a new export does."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, delta, log, manifest, service
from recsys.tables.bundle import EXPORT, Bundle
from recsys.tables.diff import diff
from recsys.tables.export import export
from recsys.tables.piece import Piece
from recsys.tables.probe import raw_rows
from recsys.tables.refresh import refresh, version_of
from tests.ranks import run_ranks
from tests.tables import saved
from tests.tables.changes import Table, at_random, piece, written

DIM, BASE = saved.DIM, saved.VERSION


@pytest.fixture
def made(home: Path, tmp_path: Path) -> Config:
    """A run of its own with an export."""
    shutil.copytree(home / "column_wise", tmp_path / "run")
    return replace(saved.config(home, "column_wise"), run=str(tmp_path / "run"))


def run_of(made: Config) -> Path:
    return Path(made.run)


def ids_of(made: Config) -> IdMap:
    return IdMap.load(run_of(made) / "encoder" / "item_id.parquet")


def publish(made: Config, rows: Table, table: str = "item_id") -> None:
    service.publish(run_of(made), lambda: [piece(table, rows, BASE, dim=DIM)])


def known(made: Config, seed: int, rows: list[int]) -> Table:
    """Vectors for rows that keep their owners."""
    owners = ids_of(made).owners(torch.tensor(rows).numpy()).to_pylist()
    drawn = at_random(seed, rows, dim=DIM)
    return {row: (owner, *drawn[row][1:]) for row, owner in zip(rows, owners, strict=True)}


def exported(made: Config, int8: bool) -> None:
    with process_group() as ranks:
        export(made, ranks, int8, part_rows=saved.PART_ROWS)


def rows_to_score(made: Config, *more: str) -> pa.Table:
    """Test rows, and copies of some that name other items."""
    encoder = Encoder.load(made, run_of(made) / "encoder")
    rows = pa.concat_tables(raw_rows(made, encoder, "test", 10**6)).combine_chunks()
    others = [rows[:3].set_column(rows.column_names.index("item_id"), "item_id", pa.array([name] * 3)) for name in more]
    return pa.concat_tables([rows, *others])


def test_the_bundle_scores_as_an_export_of_the_patched_checkpoint(made: Config) -> None:
    bundle = run_of(made) / "export"
    free = len(ids_of(made).ids) + 1
    before = Bundle.load(bundle).score(rows_to_score(made, "new item", "item 03"))
    changed = known(made, 1, [0, 2, 5, 11]) | {free + 1: ("new item", *at_random(2, [1], dim=DIM)[1][1:])}
    publish(made, changed)
    gone = {4: (None, torch.zeros(DIM), 0.0)} | known(made, 4, [5])
    service.publish(run_of(made), lambda: [piece("item_id", gone, BASE, dim=DIM)], evict=True)
    rows = rows_to_score(made, "new item", str(ids_of(made).owners(torch.tensor([2]).numpy())[0]))
    found = {mapped: Bundle.load(bundle, mapped=mapped) for mapped in (False, True)}
    run_ranks(1, exported, made, False)
    fresh = Bundle.load(bundle)
    assert fresh.told["deltas"] == [] and fresh.told["origin"]["delta"] == 2
    for each in found.values():
        assert each.told["origin"] == fresh.told["origin"]
        torch.testing.assert_close(each.score(rows), fresh.score(rows), atol=1e-6, rtol=0)
        assert each.check() < 1e-6
    assert (before[: len(rows)] - fresh.score(rows)).abs().max() > 1e-3
    assert ids_of(made).rows(pa.array(["new item"])).tolist() == [free + 1] and ids_of(made).delta == 2
    assert ids_of(made).owners(torch.tensor([4]).numpy()).to_pylist() == [None]


def test_8_bit_tables_take_the_same_deltas(made: Config) -> None:
    run_ranks(1, exported, made, True)
    bundle = run_of(made) / "export"
    changed = known(made, 1, [0, 2, 5]) | {len(ids_of(made).ids) + 1: ("new item", *at_random(2, [1], dim=DIM)[1][1:])}
    publish(made, changed)
    rows = rows_to_score(made, "new item")
    refreshed = Bundle.load(bundle).score(rows)
    run_ranks(1, exported, made, True)
    assert torch.equal(Bundle.load(bundle).score(rows), refreshed)


def test_publishing_twice_and_catching_up_with_nothing_to_do_change_nothing(made: Config) -> None:
    publish(made, known(made, 1, [2, 5]))
    state = {path: path.read_bytes() for path in sorted(run_of(made).rglob("*")) if path.is_file()}
    service.catch_up(run_of(made))
    assert service.publish(run_of(made), lambda: []) is None
    assert {path: path.read_bytes() for path in sorted(run_of(made).rglob("*")) if path.is_file()} == state


def test_a_delta_that_was_only_logged_is_caught_up_with(made: Config) -> None:
    rows = known(made, 1, [2, 5])
    log.append(run_of(made), [piece("item_id", rows, BASE, dim=DIM)])
    assert checkpoint.version_of(checkpoint.best(run_of(made) / "checkpoints")).delta == 0
    service.catch_up(run_of(made))
    assert checkpoint.version_of(checkpoint.best(run_of(made) / "checkpoints")).delta == 1
    assert version_of(run_of(made) / "export").delta == 1 and ids_of(made).delta == 1


def test_a_bundle_takes_a_compacted_log_in_place_of_its_parts(made: Config) -> None:
    bundle = run_of(made) / "export"
    publish(made, known(made, 1, [2, 5]))
    publish(made, known(made, 2, [5, 7]))
    expected = Bundle.load(bundle).score(rows_to_score(made))
    log.append(run_of(made), [piece("item_id", known(made, 3, [9]), BASE, dim=DIM)])
    service.compact(run_of(made))
    service.catch_up(run_of(made))
    assert len(Bundle.load(bundle).told["deltas"]) == 1
    log_rows = known(made, 3, [9])
    assert (Bundle.load(bundle).score(rows_to_score(made)) != expected).any() and log_rows
    kept = sorted(path.name for path in (bundle / "deltas").iterdir())
    assert kept[-1].startswith("probe-"), kept
    assert service.retire(run_of(made)) == 1
    service.catch_up(run_of(made))
    publish(made, known(made, 1, [2]))
    assert log.newest(run_of(made)) == 4, "numbers go on where the bundle is"


def test_a_bundle_behind_the_log_is_told_so(made: Config, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(run_of(made) / "export", tmp_path / "elsewhere")
    for seed in (1, 2):
        publish(made, known(made, seed, [2]))
    with pytest.raises(InputError, match="elsewhere: has deltas up to 0: expected 1 next"):
        refresh(elsewhere, log.pending(run_of(made), 1))
    assert refresh(elsewhere, log.pending(run_of(made), 0)).delta == 2


def test_rows_from_elsewhere_are_let_in_once(made: Config, tmp_path: Path) -> None:
    own = written(tmp_path / "own", {"item_id": known(made, 1, [2])}, 8, BASE, DIM)
    other = written(tmp_path / "other", {"item_id": known(made, 3, [2])}, 1, replace(BASE, dense="retrained"), DIM)
    assert service.take(run_of(made), own).first == 1  # type: ignore[union-attr]
    with pytest.raises(InputError, match="made for the training run retrained"):
        service.take(run_of(made), other)
    assert service.take(run_of(made), other, force=True).first == 2  # type: ignore[union-attr]
    service.catch_up(run_of(made))  # nobody asks again
    wide = written(tmp_path / "wide", {"item_id": at_random(1, [2])}, 1, BASE)
    with pytest.raises(InputError, match="expected width 256, found 8"):
        service.take(run_of(made), wide)
    # The same rows again are not news, also once they have left the log.
    assert service.take(run_of(made), own) is None
    service.retire(run_of(made))
    assert service.take(run_of(made), own) is None
    assert service.take(run_of(made), other, force=True) is None and log.newest(run_of(made)) == 2


@pytest.mark.parametrize("rows", [{2: "stranger"}, {3: None}, {28: "item 05"}, {2: "item 05", 5: "item 03"}])
def test_rows_of_another_owner_are_not_let_in(made: Config, rows: dict[int, str | None]) -> None:
    before = ids_of(made)
    with pytest.raises(InputError, match=r"is owned by item|would own two rows") as refused:
        publish(made, {row: (owner, torch.ones(DIM), 0.0) for row, owner in rows.items()})
    assert ".tmp" not in str(refused.value)
    assert log.newest(run_of(made)) == 0 and ids_of(made).ids.equals(before.ids)


def test_integer_ids_are_not_let_into_a_map_of_strings(made: Config, tmp_path: Path) -> None:
    part = Piece.of("item_id", torch.tensor([28]), pa.array([7], pa.int64()), torch.ones(1, DIM), "test", BASE)
    with pytest.raises(InputError, match="expected ids of type string, found int64"):
        service.publish(run_of(made), lambda: [part])
    assert log.newest(run_of(made)) == 0


@pytest.mark.parametrize("change", ["table", "width", "ids", "row", "damaged"])
def test_a_bundle_refuses_what_it_cannot_hold_and_is_as_it_was(made: Config, tmp_path: Path, change: str) -> None:
    bundle = run_of(made) / "export"
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    rows = at_random(1, [10**6] if change == "row" else [2], dim=8 if change == "width" else DIM)
    bad = written(tmp_path / "d", {"nothing" if change == "table" else "item_id": rows}, 1, BASE, DIM)
    if change == "ids":
        (tmp_path / "e").mkdir()
        part = next(bad.pieces("item_id"))
        numbers = Piece.of("item_id", part.rows, pa.array([7], pa.int64()), part.vectors, "test", BASE)
        bad = delta.write(tmp_path / "e", [numbers], 1, 1)
    if change == "damaged":
        told = manifest.read(bundle, EXPORT)
        path = bundle / told["tables"]["item_id"]["parts"][0]["safetensors"]
        path.write_bytes(path.read_bytes()[:-4])
        before[path] = path.read_bytes()
    with pytest.raises(InputError):
        refresh(bundle, [bad])
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def train_more(made: Config) -> None:
    """Save a later state of the run: some rows have moved, one of them by a delta."""
    from recsys.tables.rows import Rows
    from recsys.train import build, fitted

    with process_group() as ranks:
        sharded = build(made, fitted(made, ranks), ranks)
        folder = run_of(made) / "checkpoints"
        checkpoint.load(checkpoint.best(folder), sharded)
        rows = Rows(sharded, ranks)
        rows.write("item_id", torch.tensor([3, 9]), torch.ones(2, DIM), torch.tensor([0.5, 0.25]))
        rows.write("gender", torch.tensor([0]), torch.ones(1, DIM))
        progress = replace(checkpoint.progress_of(checkpoint.best(folder)), step=12)
        checkpoint.save(folder, sharded, progress, 3, replace(BASE, step=12, delta=1))


def test_what_training_changed_brings_a_bundle_to_where_the_run_is(made: Config, tmp_path: Path) -> None:
    run = run_of(made)
    kept = shutil.copytree(run / "checkpoints" / "step-00000007", tmp_path / "step-00000007")
    elsewhere = shutil.copytree(run / "export", tmp_path / "elsewhere")
    publish(made, known(made, 1, [2]))
    run_ranks(1, train_more, made)
    now = checkpoint.latest(run / "checkpoints")
    assert now
    made_of = diff(run, kept, now, tmp_path / "diff")
    named = {name: [row for part in made_of.pieces(name) for row in part.rows.tolist()] for name in made_of.tables}
    assert named == {"item_id": [2, 3, 9], "gender": [0]} and made_of.steps == (7, 12)
    assert {source for part in made_of.pieces("item_id") for source in part.sources.to_pylist()} == {"trained"}
    assert refresh(elsewhere, [made_of]) == replace(BASE, step=12, delta=1)
    run_ranks(1, exported, made, False)
    rows = rows_to_score(made)
    fresh = Bundle.load(run / "export")
    torch.testing.assert_close(Bundle.load(elsewhere).score(rows), fresh.score(rows), atol=1e-6, rtol=0)
    again = manifest.read(elsewhere, EXPORT)
    assert refresh(elsewhere, [made_of]).step == 12 and manifest.read(elsewhere, EXPORT) == again
    with pytest.raises(InputError, match="what training changed goes to a bundle"):
        service.take(run, made_of)
    with pytest.raises(InputError, match="expected a later checkpoint"):
        diff(run, now, kept, tmp_path / "other")
    with pytest.raises(InputError, match="there is something already"):
        diff(run, kept, now, tmp_path / "diff")


def test_a_producer_that_fails_leaves_no_delta(made: Config) -> None:
    def broken() -> Iterator[Piece]:
        yield piece("item_id", known(made, 1, [2]), BASE, dim=DIM)
        raise InputError("the encoder's file is gone")

    with pytest.raises(InputError, match="the encoder's file is gone"):
        service.publish(run_of(made), broken)
    assert log.newest(run_of(made)) == 0
    assert not list(log.folder_of(run_of(made)).iterdir())
