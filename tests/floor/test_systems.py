"""The commands: what each system scores, what can and cannot reach it, and what is refused."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys import settings
from recsys.data.schema import read_info, split_files, write_info
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.evaluate.pointwise import evaluate
from recsys.floor import about
from recsys.floor.systems import SYSTEMS, System, floor
from tests import arrived
from tests.ranks import run_ranks
from tools import floor as command


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = arrived.write(tmp_path_factory.mktemp("floor"))
    with process_group() as ranks:
        arrived.run(arrived.config(folder), ranks)
    return folder


def floor_on(home: Path, system: System, exposure: int, **options: Any) -> Path:
    with process_group() as ranks:
        return floor(arrived.config(home, **options), system, exposure, ranks)


def scores(path: Path) -> np.ndarray:
    table = pa.concat_tables(pq.read_table(file) for file in path.glob("*.parquet")).sort_by("row_id")
    assert table["row_id"].to_pylist() == list(range(arrived.TEST))
    return table["score"].to_numpy()


def is_new(home: Path) -> np.ndarray:
    test = pa.concat_tables(pq.read_table(file, columns=["item_id"]) for file in split_files(home / "data", "test"))
    return np.isin(test["item_id"].to_pylist(), arrived.NEW.to_pylist())


def test_finetune_starts_as_the_base_and_moves_new_items_alone(home: Path) -> None:
    base, new = scores(home / "run" / "scores" / "test"), is_new(home)
    assert 20 < new.sum() < 80
    start, tuned = (scores(floor_on(home, "finetune", n)) for n in (0, 5))
    np.testing.assert_allclose(start, base, atol=1e-6)
    assert np.array_equal(start[~new], base[~new]) and np.array_equal(tuned[~new], base[~new])
    assert np.abs(tuned - base)[new].min() > 1e-6 and np.abs(tuned - base)[new].mean() > 1e-3
    told = about.read(home / "run" / "floor" / "finetune" / "n=5")
    assert told.gradient_steps > 0 and told.examples == 20 and told.items == 4 and told.converged
    assert told.row_name() == f"finetune ({told.gradient_steps} gradient steps)"
    assert about.read(home / "run" / "floor" / "finetune" / "n=0").row_name() == "finetune (0 gradient steps)"


def test_ridge_moves_new_items_without_a_row_and_goes_on_from_there(home: Path) -> None:
    base, new = scores(home / "run" / "scores" / "test"), is_new(home)
    start, tuned = (scores(floor_on(home, "ridge", n)) for n in (0, 2))
    for found in (start, tuned):
        assert np.array_equal(found[~new], base[~new]) and np.abs(found - base)[new].min() > 1e-4
    assert np.abs(start - tuned)[new].min() > 1e-5
    told = [about.read(home / "run" / "floor" / "ridge" / f"n={n}") for n in (0, 2)]
    assert told[0].gradient_steps == 0 < told[1].gradient_steps
    assert told[0].found | {"left_out_loss": {}} == told[1].found and len(told[0].found["left_out_error"]) == 9


def test_means_are_those_counted_by_hand(home: Path) -> None:
    found = scores(floor_on(home, "means", 2, strength=3.0))
    train, kept, test = (rows(home, split) for split in ("train", "feedback", "test"))
    kept = [row for row in kept if row["rank"] <= 2]
    rate = sum(row["label"] for row in train) / len(train)

    def log_odds(seen: list[dict[str, Any]]) -> float:
        share = (sum(row["label"] for row in seen) + 3.0 * rate) / (len(seen) + 3.0)
        return math.log(share / (1 - share))

    for row, score in zip(test, found, strict=True):
        user = [one for one in train if one["user_id"] == row["user_id"]]
        item = [one for one in train + kept if one["item_id"] == row["item_id"]]
        total = log_odds(user) + log_odds(item) - math.log(rate / (1 - rate))
        assert score == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-5)
    told = about.read(home / "run" / "floor" / "means" / "n=2")
    assert told.gradient_steps == 0 and told.examples == len(kept) == 8
    floor_on(home, "means", 0)
    assert about.read(home / "run" / "floor" / "means" / "n=0").examples == 0


def rows(home: Path, split: str) -> list[dict[str, Any]]:
    return [row for file in split_files(home / "data", split) for row in pq.read_table(file).to_pylist()]


def test_evaluation_takes_them_and_knows_whose_rows_they_are(home: Path) -> None:
    paths: dict[str, Path] = {system: floor_on(home, system, 2) for system in SYSTEMS}
    found = evaluate(arrived.config(home), paths, baseline="means", exposure=2)
    assert all(len(found["systems"][system]["n=2"]["auc"]) == 3 for system in SYSTEMS)
    assert {pq.read_schema(path / "scores.parquet").metadata[b"dataset"] for path in paths.values()} == {b"tiny"}


def rewrite(path: Path, change: Callable[[pa.Table], pa.Array]) -> None:
    table = pq.read_table(path, partitioning=None)
    label = change(table).cast(table.schema.field("label").type)
    pq.write_table(table.set_column(table.column_names.index("label"), "label", label), path)


def test_nothing_after_the_cut_reaches_the_floor(tmp_path: Path) -> None:
    """Labels of the test rows, and kept rows beyond the exposure, are flipped: every score stays what it was."""
    home = arrived.write(tmp_path)
    with process_group() as ranks:
        arrived.run(arrived.config(home), ranks)

    def all_scores() -> list[list[float]]:
        return [scores(floor_on(home, system, 2)).tolist() for system in SYSTEMS]

    def flipped(table: pa.Table, which: Any) -> pa.Array:
        return pc.if_else(which, pc.subtract(1, table["label"]), table["label"])

    before = all_scores()
    for file in split_files(home / "data", "test"):
        rewrite(file, lambda table: flipped(table, True))
    (kept,) = split_files(home / "data", "feedback")
    rewrite(kept, lambda table: flipped(table, pc.greater(table["rank"], 2)))
    assert all_scores() == before
    rewrite(kept, lambda table: flipped(table, pc.equal(table["rank"], 2)))
    assert all(now != then for now, then in zip(all_scores(), before, strict=True))


def test_two_ranks_write_what_one_does(home: Path) -> None:
    """Ridge goes through everything: content, lookups for the fit, fine-tuning, scoring."""
    alone = scores(floor_on(home, "ridge", 5, tolerance=1e-9))
    run_ranks(2, ridge_on_ranks, home)
    np.testing.assert_allclose(scores(home / "run" / "floor" / "by two" / "n=5"), alone, atol=2e-3)


def ridge_on_ranks(home: Path) -> None:
    with process_group() as ranks:
        floor(arrived.config(home, tolerance=1e-9), "ridge", 5, ranks, name="by two")


@pytest.mark.parametrize(
    ("exposure", "message"),
    [(-1, "exposure -1: expected a number of kept rows"), (6, "5 rows of each new item were kept")],
)
def test_an_exposure_that_was_not_kept_is_refused(home: Path, exposure: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        floor_on(home, "means", exposure)


def test_a_folder_that_lacks_something_is_refused(tmp_path: Path) -> None:
    home = arrived.write(tmp_path)
    with pytest.raises(InputError, match="no run there: train first"):
        floor_on(home, "means", 0)
    with process_group() as ranks:
        arrived.run(arrived.config(home), ranks)
    shutil.rmtree(home / "run" / "scores")
    with pytest.raises(InputError, match=r"scores/test: no scores of the base: run tools\.predict"):
        floor_on(home, "finetune", 2)
    shutil.rmtree(home / "data" / "interactions" / "split=feedback")
    with pytest.raises(InputError, match="exposure 2 needs split=feedback"):
        floor_on(home, "finetune", 2)
    write_info(replace(read_info(home / "data"), fingerprint="other"), home / "data")
    with pytest.raises(InputError, match="begun on another dataset"):
        floor_on(home, "ridge", 0)


@pytest.mark.parametrize(
    ("dataset", "scale", "message"),
    [("other", 1.0, "made on another dataset"), ("tiny", 0.99, "not the scores of the run's best checkpoint")],
)
def test_scores_that_are_not_the_runs_are_refused(
    home: Path, tmp_path: Path, dataset: str, scale: float, message: str
) -> None:
    (part,) = (home / "run" / "scores" / "test").iterdir()
    kept = shutil.copy(part, tmp_path / "kept.parquet")
    table = pq.read_table(part)
    table = table.set_column(1, "score", pc.multiply(table["score"], pa.scalar(scale, pa.float32())))
    pq.write_table(table.replace_schema_metadata({"dataset": dataset}), part)
    with pytest.raises(InputError, match=message):
        floor_on(home, "finetune", 0)
    shutil.copy(kept, part)


def test_content_of_nobody_is_refused(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"item_id": ["nobody"], "vector": [[1.0]]}), path)
    with pytest.raises(InputError, match=r"mine\.parquet: no item with training rows has a content vector"):
        floor_on(home, "ridge", 0, content=str(path))
    pq.write_table(pa.table({"item_id": ["item 03"], "vector": [[1.0]]}), path)
    with pytest.raises(InputError, match=r"mine\.parquet: all items .* fall into one of 5 folds"):
        floor_on(home, "ridge", 0, content=str(path))
    pq.write_table(pa.table({"item_id": [3], "vector": [[1.0]]}), path)
    with pytest.raises(InputError, match=r"mine\.parquet: column 'item_id': expected string .* found int64"):
        floor_on(home, "ridge", 0, content=str(path))


def test_what_is_not_a_number_is_not_written(tmp_path: Path) -> None:
    told = about.About(system="ridge", exposure=0, dataset="", settings={}, items=1, found={"penalty": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        told.save(tmp_path)


def test_a_dataset_that_holds_out_nothing_is_refused(tmp_path: Path) -> None:
    home = arrived.write(tmp_path)
    with process_group() as ranks:
        arrived.run(arrived.config(home), ranks)
    path = home / "data" / "held_out.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    for system in SYSTEMS:
        with pytest.raises(InputError, match=r"held_out\.parquet: expected .* found no held-out item"):
            floor_on(home, system, 0)


def test_scores_in_bfloat16_may_differ_by_more(tmp_path: Path) -> None:
    home = arrived.write(tmp_path)
    made = arrived.config(home)
    made = replace(made, train=replace(made.train, bf16=True))

    def off_by(scale: float) -> None:
        table = pq.read_table(part)
        score = pc.multiply(table["score"], pa.scalar(scale, pa.float32()))
        pq.write_table(table.set_column(1, "score", score), part)
        floor(made, "finetune", 0, ranks)

    with process_group() as ranks:
        arrived.run(made, ranks)
        (part,) = (home / "run" / "scores" / "test").iterdir()
        off_by(0.99)
        with pytest.raises(InputError, match="not the scores of the run's best checkpoint"):
            off_by(0.9)


def test_the_command(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "config.yaml"
    settings.dump(arrived.config(home), given)
    command.main([str(given), "--system", "means", "--exposure", "2", "--name", "mine", "floor.strength=4"])
    folder = home / "run" / "floor" / "mine" / "n=2"
    assert capsys.readouterr().out == f"mine (0 gradient steps): {folder}\n"
    assert json.loads((folder / "about.json").read_text())["settings"]["strength"] == 4
