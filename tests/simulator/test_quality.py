"""RealPair and adoption against a count by hand."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from recsys.errors import InputError
from simulator import quality, simulated
from tests import tiny


def simulation(folder: Path, asked: bool = True) -> pa.Table:
    """All users as candidates of all cold items, half of them asked about, half of those qualified."""
    random = np.random.default_rng(0)
    items = [f"item {k:02d}" for k in range(tiny.ITEMS - tiny.NEW, tiny.ITEMS)]
    known = random.random(tiny.USERS * tiny.NEW) < 0.5
    rows = pa.table(
        {
            "user_id": [f"u{k:02d}" for k in range(tiny.USERS)] * tiny.NEW,
            "item_id": list(np.repeat(items, tiny.USERS)),
            "filter": pa.array(random.random(len(known)), pa.float32()),
            "yes": pa.array(random.random(len(known)), pa.float32(), mask=~(known & asked)),
            "qualified": known & (random.random(len(known)) < 0.5),
        }
    )
    about = simulated.About(dataset="made on", settings={}, items=tiny.NEW, left_out=0, refining=None, seconds=0.0)
    simulated.write(folder, rows, about)
    return rows


def exact(part: list[int], whole: list[int]) -> list[float]:
    """Percentiles of the share over all draws of as many items with replacement, each as likely."""
    draws = itertools.product(range(len(part)), repeat=len(part))
    shares = [sum(part[k] for k in one) / sum(whole[k] for k in one) for one in draws]
    return np.quantile(shares, [0.025, 0.975]).tolist()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "data", {"train": 203, "valid": 41, "test": 400})


def test_shares_are_those_of_a_count(dataset: Path, tmp_path: Path) -> None:
    rows = simulation(tmp_path / "made").to_pylist()
    assert simulated.read_about(tmp_path / "made").items == tiny.NEW
    found = quality.measure(tmp_path / "made", dataset, replicates=4000, seed=0)
    held = {
        (row["user_id"], row["item_id"])
        for split in ("valid", "test")
        for row in pad.dataset(dataset / "interactions" / f"split={split}").to_table().to_pylist()
        if row["label"] == 1
    }
    qualified = [(row["user_id"], row["item_id"]) for row in rows if row["qualified"]]
    real = [one in held for one in qualified]
    assert found.qualified == len(qualified) and found.items == tiny.NEW
    assert found.real_pair[0] == pytest.approx(np.mean(real))
    every = [(row["user_id"], row["item_id"]) in held for row in rows]
    assert found.chance == pytest.approx(np.mean(every))
    asked = [row["qualified"] for row in rows if row["yes"] is not None]
    assert found.asked == len(asked) and found.adoption is not None
    assert found.adoption[0] == pytest.approx(np.mean(asked))
    items = sorted({item for _, item in qualified})
    part = [sum(true for true, (_, item) in zip(real, qualified, strict=True) if item == name) for name in items]
    whole = [sum(item == name for _, item in qualified) for name in items]
    assert found.real_pair[1:] == pytest.approx(exact(part, whole), abs=0.02)


def test_where_nobody_was_asked_there_is_no_adoption(dataset: Path, tmp_path: Path) -> None:
    simulation(tmp_path / "made", asked=False)
    found = quality.measure(tmp_path / "made", dataset, replicates=20, seed=0)
    assert found.adoption is None and found.asked == 0


def test_a_simulation_of_another_dataset_or_without_pairs_is_refused(dataset: Path, tmp_path: Path) -> None:
    rows = simulation(tmp_path / "made")
    with pytest.raises(InputError, match="simulated on another dataset"):
        simulated.read(tmp_path / "made", "another")
    none = rows.set_column(4, "qualified", pa.array([False] * len(rows)))
    simulated.write(tmp_path / "made", none, simulated.read_about(tmp_path / "made"))
    with pytest.raises(InputError, match="no pair qualified"):
        quality.measure(tmp_path / "made", dataset, replicates=20, seed=0)
    with pytest.raises(InputError, match="no such simulation"):
        simulated.read(tmp_path / "gone")
