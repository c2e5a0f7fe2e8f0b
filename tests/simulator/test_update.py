"""The update: rows against plain PyTorch by hand, what is published and what stays, resuming, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.learned import Learned
from recsys.coldrows.prior import unknown_prior
from recsys.config import Config
from recsys.data.batch import Batcher
from recsys.data.ids import IdMap
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.floor.systems import floor
from recsys.predict import predict
from recsys.tables import checkpoint, live, log
from recsys.tables.bundle import Bundle
from recsys.tables.checkpoint import latest
from recsys.tables.rows import Rows
from recsys.tables.version import Version
from recsys.train import build, fitted
from simulator import interactions
from simulator.population import training_users
from simulator.update import Updated, update
from tests import arrived
from tests import live as whole
from tests.coldrows import plainly
from tests.plain import Plain
from tests.ranks import run_ranks
from tests.simulator import simulations

FOLDER = Path("run/simulator/simulated")


def updated(**options: Any) -> Updated:
    with process_group() as ranks:
        return update(simulations.config(**options), ranks)


def learned() -> Learned:
    rows = Learned.read(FOLDER)
    assert rows
    return rows


def scores(path: Path) -> np.ndarray:
    table = pa.concat_tables(pq.read_table(file) for file in sorted(path.glob("*.parquet"))).sort_by("row_id")
    assert table["row_id"].to_pylist() == list(range(arrived.TEST))
    return table["score"].to_numpy()


def is_among(items: list[str]) -> np.ndarray:
    tables = [pq.read_table(file, columns=["item_id"]) for file in split_files(Path("data"), "test")]
    return np.isin(pa.concat_tables(tables)["item_id"].to_pylist(), items)


def rows_by_hand(made: Config) -> pa.Table:
    """The labelled rows, each with its user's newest state, by a loop."""
    train = [row for file in split_files(Path("data"), "train") for row in pq.read_table(file).to_pylist()]
    pairs = interactions.read(
        FOLDER / "simulated.parquet", training_users(Path("data")), made.simulator.update, observed=False
    )
    rows = []
    for item, user, label in zip(pairs.item, pairs.user, pairs.label, strict=True):
        own = [row for row in train if row["user_id"] == pairs.users[user].as_py()]
        now = [row for row in own if row["timestamp"] == max(row["timestamp"] for row in own)]
        row = dict(now[-1])
        row["history"] = (row["history"] + [one["item_id"] for one in now])[-6:]
        row["history_label"] = (row["history_label"] + [one["label"] for one in now])[-6:]
        rows.append({**row, "item_id": pairs.items[item].as_py(), "label": int(label)})
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("options", [{}, {"balance": False, "weight": 0.3, "exposure": 2}])
def test_rows_are_those_that_a_plain_loop_finds(here: Path, options: dict[str, Any]) -> None:
    made = simulations.config(publish=False, **options)
    updated(publish=False, **options)
    found = learned()
    with process_group() as ranks:
        frozen = Frozen.load(made, found.items, ranks)
        prior = unknown_prior(frozen)
    table = rows_by_hand(made)
    simulated = table.num_rows
    if made.simulator.update.exposure:
        [kept] = split_files(Path("data"), "feedback")
        real = [row for row in pq.read_table(kept).to_pylist() if row["rank"] <= 2]
        assert len(real) == 8
        table = pa.Table.from_pylist([*table.to_pylist(), *[{k: row[k] for k in table.column_names} for row in real]])
    block = frozen.encoder.encode(table, 0)
    batch = Batcher(frozen.encoder, len(block)).cut(block)
    expected = by_lbfgs(frozen, found.items, prior.start, prior.factor(), batch, simulated, made)
    torch.testing.assert_close(found.vectors, expected, atol=1e-2, rtol=0)
    assert (found.vectors - prior.start).abs().max() > 0.1
    assert found.about.found["simulated"] == simulated and found.about.found["kept"] == len(block) - simulated


def by_lbfgs(
    frozen: Frozen, items: pa.Array, start: Tensor, factor: Tensor, batch: Any, simulated: int, made: Config
) -> Tensor:
    """Minimise the stated objective by PyTorch's own L-BFGS, on one long table."""
    options = made.simulator.update
    weight = torch.full_like(batch.label, 1.0)
    weight[:simulated] = options.weight
    if options.balance:
        plain, place = plainly.lengthened(frozen, items, start)
        score, target = plain.logits(batch).sigmoid().detach(), batch.items["item_id"].values()
        for row in place:
            here = target == row
            up = (here & (batch.label == 1)).nonzero().squeeze(1)
            down = (here & (batch.label == 0)).nonzero().squeeze(1)
            a, b = (1 - score[up]).sum(), score[down].sum()
            weight[up] *= 2 * b / (a + b)
            weight[down] *= 2 * a / (a + b)
    z = torch.zeros(start.shape, dtype=torch.float64, requires_grad=True)
    plain, place = plainly.lengthened(frozen, items, start)
    table = plain.tables["item_id"].detach()
    solver = torch.optim.LBFGS([z], max_iter=300, line_search_fn="strong_wolfe", tolerance_change=1e-10)

    def objective() -> Tensor:
        solver.zero_grad()
        rows = (start.double() + z @ factor.T).float()
        model = Plain(plain.dense, plain.tables, made.train)
        model.tables = {**plain.tables, "item_id": table.index_copy(0, torch.from_numpy(place), rows)}
        loss = (binary_cross_entropy_with_logits(model.logits(batch), batch.label, weight, reduction="sum")).double()
        loss = loss + options.prior / 2 * z.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    return (start.double() + z.detach() @ factor.T).float()


def on_ranks(home: Path) -> None:
    with simulations.inside(home):
        updated(exposure=2)


def test_two_ranks_find_and_publish_what_one_does(here: Path) -> None:
    two = shutil.copytree(here, here.parent / "two")
    on_ranks(here)
    run_ranks(2, on_ranks, two)
    alone = learned(), scores_of(FOLDER)
    with simulations.inside(two):
        torch.testing.assert_close(learned().vectors, alone[0].vectors, atol=5e-3, rtol=0)
        np.testing.assert_allclose(scores_of(FOLDER), alone[1], atol=2e-3)
        assert learned().items.equals(alone[0].items) and len(log.every(Path("run"))) == 1


def scores_of(folder: Path) -> np.ndarray:
    table = pq.read_table(folder / "scores.parquet")
    assert table["row_id"].to_pylist() == list(range(arrived.TEST))
    return table["score"].to_numpy()


def state(made: Config) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], Version]:
    """Tables, their optimizer state, the dense part and the version of the newest checkpoint."""
    with process_group() as ranks:
        sharded = build(made, fitted(made, ranks), ranks)
        path = latest(Path("run/checkpoints"))
        assert path
        checkpoint.load(path, sharded)
        tables, dense = whole.shards(sharded)
        return whole.whole([tables]), whole.whole_sums([whole.sums(sharded)]), dense, checkpoint.version_of(path)


def test_nothing_but_the_named_rows_changes_and_twice_is_once(here: Path) -> None:
    made = simulations.config()
    before = state(made)
    first = updated()
    assert first.delta and first.delta.rows == 3 and first.about == learned().about
    after = state(made)
    rows = IdMap.load(Path("run/encoder/item_id.parquet")).rows(learned().items)
    assert rows.tolist() == [27, 28, 29] and learned().items.to_pylist() == arrived.NEW.to_pylist()[:3]
    others = np.setdiff1d(np.arange(len(before[0]["item_id"])), rows)
    for name, table in before[0].items():
        same = others if name == "item_id" else slice(None)
        assert torch.equal(table[same], after[0][name][same]), name
        assert torch.equal(before[1][name][same], after[1][name][same]), name
    assert torch.equal(after[0]["item_id"][rows], learned().vectors) and not after[1]["item_id"][rows].any()
    assert all(torch.equal(tensor, after[2][name]) for name, tensor in before[2].items())
    held = Bundle.load(Path("run/export")).vectors["item_id"].take(torch.from_numpy(rows))
    assert torch.equal(held, learned().vectors)
    files = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*.parquet")}
    assert updated().delta is None and len(log.every(Path("run"))) == 1
    assert files == {path: path.stat().st_mtime_ns for path in Path("run").rglob("*.parquet")}


def test_a_live_model_takes_them(here: Path) -> None:
    made = simulations.config()
    with process_group() as ranks:
        sharded = build(made, fitted(made, ranks), ranks)
        path = checkpoint.best(Path("run/checkpoints"))
        checkpoint.load(path, sharded)
        version = checkpoint.version_of(path)
        update(made, ranks)
        live.catch_up(Path("run"), sharded, version, ranks)
        vectors, sums = Rows(sharded, ranks).read("item_id", torch.tensor([27, 28, 29]))
    assert torch.equal(vectors, learned().vectors) and not sums.any()


def test_the_scores_are_those_of_the_published_ranker(here: Path) -> None:
    """They were made before, by the frozen ranker; then `tools.predict` reads the new rows from the tables."""
    base = scores(Path("run/scores/test"))
    updated()
    found, new = scores_of(FOLDER), is_among(learned().items.to_pylist())
    assert new.any() and np.array_equal(found[~new], base[~new])
    assert np.abs(found - base)[new].mean() > 1e-3
    with process_group() as ranks:
        predict(simulations.config(), "test", ranks)
    np.testing.assert_allclose(scores(Path("run/scores/test")), found, atol=1e-6)
    assert pq.read_schema(FOLDER / "scores.parquet").metadata[b"dataset"] == b"tiny"


def test_it_goes_on_with_what_is_missing_and_begins_anew_for_other_input(here: Path) -> None:
    updated(publish=False)
    made, found = learned(), scores_of(FOLDER)
    stamps = [(FOLDER / name).stat().st_mtime_ns for name in ("rows.parquet", "scores.parquet")]
    (FOLDER / "scores.parquet").unlink()
    assert updated().delta
    assert (FOLDER / "rows.parquet").stat().st_mtime_ns == stamps[0]
    assert np.array_equal(scores_of(FOLDER), found)
    simulations.simulate(FOLDER, seed=1)
    again = updated()
    assert again.delta and not torch.equal(learned().vectors, made.vectors)
    assert again.delta.last == 2 and again.about and again.about.key != made.about.key


def test_ridge_is_where_rows_start_and_stay_with_a_strong_prior(here: Path) -> None:
    updated(publish=False, start="ridge", prior=1e7)
    with process_group() as ranks:
        floor(simulations.config(), "ridge", 0, ranks)
    ridge = pq.read_table("run/floor/ridge/n=0/scores.parquet")["score"].to_numpy()
    known = is_among(learned().items.to_pylist())
    np.testing.assert_allclose(scores_of(FOLDER)[known], ridge[known], atol=1e-3)
    assert np.abs(ridge - scores(Path("run/scores/test")))[known].min() > 1e-4


def test_what_it_cannot_learn_from_is_refused(here: Path) -> None:
    path = FOLDER / "simulated.parquet"
    table = pq.read_table(path)

    def with_items(item: str) -> None:
        items = pa.array([item] * table.num_rows)
        pq.write_table(table.set_column(table.column_names.index("item_id"), "item_id", items), path)

    with_items("item 03")
    with pytest.raises(InputError, match=r"simulated\.parquet: item 03 has \d+ training rows: expected new items"):
        updated()
    pq.write_table(table.filter(table["qualified"]).slice(0, 0), path)
    with pytest.raises(InputError, match=r"simulated\.parquet: expected pairs"):
        updated()
    never = table.set_column(table.column_names.index("qualified"), "qualified", pa.array([False] * table.num_rows))
    pq.write_table(never, path)
    with pytest.raises(InputError, match="expected an item with a Yes and a No"):
        updated()
    path.unlink()
    with pytest.raises(InputError, match=r"simulated\.parquet: no simulated interactions"):
        updated()
    with pytest.raises(InputError, match="exposure 6: 5 rows"):
        updated(exposure=6)
    assert not log.every(Path("run")) and not (FOLDER / "rows.parquet").exists()


def test_more_items_than_free_rows_are_refused_and_nothing_is_published(here: Path) -> None:
    ids = IdMap.load(Path("run/encoder/item_id.parquet"))
    full, _ = ids.admit(pa.array([f"other {k}" for k in range(simulations.SPARE - 2)]))
    full.save(Path("run/encoder/item_id.parquet"))
    with pytest.raises(InputError, match=r"rows\.parquet: 3 new items, but table item_id has 2 free rows"):
        updated()
    assert not log.every(Path("run")) and (FOLDER / "scores.parquet").exists()


def test_rows_for_another_training_run_are_refused(here: Path) -> None:
    updated(publish=False)
    rows = learned()
    about = replace(rows.about, base="tables/other/1")
    replace(rows, about=about).save(FOLDER)
    with pytest.raises(InputError, match="rows made for the training run other"):
        updated()


def test_a_damaged_file_of_rows_is_named(here: Path) -> None:
    (FOLDER / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(
        InputError, match=r"rows\.parquet: expected what tools\.simulate, tools\.prompt or tools\.lifecycle writes"
    ):
        updated()
