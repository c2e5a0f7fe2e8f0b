"""Joint retraining: a dataset with the simulated rows in it, a run on that, and its scores for the base's test rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.ids import IdMap
from recsys.data.schema import read_info, split_files
from recsys.distributed import process_group
from recsys.evaluate.pointwise import evaluate
from simulator.update import update
from tests import arrived
from tests.simulator import simulations

FOLDER = Path("run/simulator/simulated")


def retrained(**options: Any) -> None:
    with process_group() as ranks:
        assert update(simulations.config(mode="joint", **options), ranks).delta is None


@pytest.mark.parametrize("exposure", [0, 2])
def test_it_trains_on_the_union_and_scores_the_same_test_rows(here: Path, exposure: int) -> None:
    retrained(exposure=exposure)
    made = simulations.config()
    data, union = Path("data"), FOLDER / "dataset"
    old, new = ([path.name for path in split_files(folder, "train")] for folder in (data, union))
    assert new == [*old, "part-00002.parquet"]
    assert all(
        path.stat().st_ino == (union / path.relative_to(data)).stat().st_ino for path in split_files(data, "test")
    )
    added = pq.read_table(split_files(union, "train")[-1])
    assert added.schema.equals(pq.read_schema(split_files(data, "train")[0]))
    real = [row for row in pq.read_table(split_files(data, "feedback")[0]).to_pylist() if row["rank"] <= exposure]
    names = added.column_names
    assert [{k: row[k] for k in names} for row in real] == added.to_pylist()[added.num_rows - len(real) :]
    assert added["value"][: added.num_rows - len(real)].null_count == added.num_rows - len(real)
    items = set(added["item_id"].to_pylist())
    assert items == set(arrived.NEW.to_pylist()[: 4 if exposure else 3])
    info = read_info(union)
    assert info.counts["train"] == read_info(data).counts["train"] + added.num_rows
    held = set(pq.read_table(union / "held_out.parquet")["item_id"].to_pylist())
    assert held == set(arrived.NEW.to_pylist()) - items
    ids = IdMap.load(FOLDER / "joint/encoder/item_id.parquet")
    assert (ids.rows(pa.array(sorted(items))) > 0).all()
    found = evaluate(made, {"base": Path("run/scores/test"), "joint": FOLDER / "scores.parquet"}, exposure=exposure)
    assert found["systems"]["joint"][f"n={exposure}"]["rows"] > 20
    scores = pq.read_table(FOLDER / "scores.parquet")
    assert scores["row_id"].to_pylist() == list(range(arrived.TEST))
    base = pq.read_table("run/scores/test").sort_by("row_id")["score"].to_numpy()
    assert np.abs(scores["score"].to_numpy() - base).mean() > 1e-3


def test_what_is_done_stays_and_the_base_is_untouched(here: Path) -> None:
    def stamps(*folders: str) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for each in folders for path in Path(each).rglob("*.*") if path.is_file()}

    base = stamps("run/checkpoints", "run/encoder", "data")
    retrained()
    first = stamps(str(FOLDER))
    retrained()
    assert stamps(str(FOLDER)) == first
    (FOLDER / "scores.parquet").unlink()
    retrained()
    assert stamps(str(FOLDER / "dataset"), str(FOLDER / "joint/checkpoints")).items() <= first.items()
    assert (FOLDER / "scores.parquet").exists()
    assert stamps("run/checkpoints", "run/encoder", "data") == base
