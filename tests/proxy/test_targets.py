"""Targets against the checkpoint as torch reads it: who they are, their vectors, their parts."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxy.targets import OUT, TEST, TRAIN, VALID, divide, folds, read
from recsys.config_proxy import Align
from recsys.data.ids import IdMap
from recsys.errors import InputError
from tests.proxy import runs

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def counted(home: Path) -> dict[str, int]:
    """Training rows of each item, counted from the dataset itself."""
    rows = pq.read_table(home / "data" / "interactions" / "split=train")["item_id"]
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in rows.value_counts()}


def test_the_warm_items_and_their_rows(home: Path) -> None:
    found, rows = read(runs.config(home, tau=8)), counted(home)
    expected = sorted(item for item, count in rows.items() if count >= 8)
    assert 0 < len(expected) < len(rows)
    assert found.ids.to_pylist() == expected
    assert found.updates.tolist() == [rows[item] for item in expected]
    places = IdMap.load(home / "run" / "encoder" / "item_id.parquet").rows(found.ids)
    np.testing.assert_array_equal(found.vectors.numpy(), runs.table(home).numpy()[places])
    np.testing.assert_allclose(found.unit.norm(dim=1), np.ones(len(expected)), rtol=1e-6)
    np.testing.assert_allclose(found.unit * found.vectors.norm(dim=1, keepdim=True), found.vectors, rtol=1e-5)
    assert found.base == "tables/run/7"


def test_an_item_that_the_split_holds_out_is_no_target(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    config = runs.config(tmp_path / "home")
    out = read(config).ids[3].as_py()
    held = pq.read_table(home / "data" / "held_out.parquet")
    one = pa.table({"item_id": [out], "group": ["new"], "scored": [True]}, schema=held.schema)
    pq.write_table(pa.concat_tables([held, one]), tmp_path / "home" / "data" / "held_out.parquet")
    assert set(read(runs.config(home)).ids.to_pylist()) - set(read(config).ids.to_pylist()) == {out}


def test_parts_are_drawn_by_the_id() -> None:
    options = Align(valid_share=0.1, test_share=0.3)
    ids = pa.array([f"item {k}" for k in range(4000)])
    part = divide(ids, options)
    shares = [float(np.mean(part == which)) for which in (TRAIN, VALID, TEST)]
    assert shares == pytest.approx([0.6, 0.1, 0.3], abs=0.03)
    some = np.random.default_rng(0).permutation(4000)[:100]
    np.testing.assert_array_equal(divide(ids.take(pa.array(some)), options), part[some])
    assert (divide(ids, replace(options, seed=1)) != part).any()
    numbers = divide(pa.array(range(4000)), options)
    assert np.mean(numbers == TEST) == pytest.approx(0.3, abs=0.03)


def test_what_cannot_be_aligned_to_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no item has proxy.align.tau=9999 training rows or more; the most that any"):
        read(runs.config(home, tau=9999))
    most = max(counted(home).values())
    with pytest.raises(InputError, match="leave too few for training"):
        read(runs.config(home, tau=most))
    with pytest.raises(InputError, match="leave too few for valid_share"):
        read(runs.config(home, valid_share=1e-6))
    with pytest.raises(InputError, match="leave too few for test_share"):
        read(runs.config(home, test_share=1e-6))
    with pytest.raises(InputError, match="no trained checkpoint"):
        read(replace(runs.config(home), run=str(tmp_path)))


def test_a_vector_without_a_direction_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.tables.stored import StoredTensor

    whole = StoredTensor.take
    for bad in (0.0, float("nan")):

        def spoiled(self: StoredTensor, rows: object, value: float = bad) -> object:
            found = whole(self, rows)  # type: ignore[arg-type]
            found[2] = value
            return found

        monkeypatch.setattr(StoredTensor, "take", spoiled)
        name = read_name(home)
        with pytest.raises(InputError, match=f"item '{name}': expected a vector with a direction"):
            read(runs.config(home))


def read_name(home: Path) -> str:
    """The third target."""
    return sorted(item for item, count in counted(home).items() if count >= 5)[2]


def test_folds_are_of_what_is_learned_from(home: Path) -> None:
    found = read(runs.config(home, folds=3))
    learned = found.part == TRAIN
    np.testing.assert_array_equal(found.fold >= 0, learned)
    rest = found.without(1)
    np.testing.assert_array_equal(rest.part == OUT, found.fold == 1)
    np.testing.assert_array_equal(rest.part[found.fold != 1], found.part[found.fold != 1])
    assert (read(runs.config(home, folds=0)).fold == -1).all()
    many = folds(pa.array(range(4000)), Align(folds=4))
    assert np.bincount(many).tolist() == pytest.approx([1000] * 4, rel=0.15)
