from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.evaluate import systems
from recsys.evaluate.bootstrap import Judged


def test_systems_are_named_or_named_after_their_file(tmp_path: Path) -> None:
    odd = tmp_path / "split=test"
    odd.mkdir()
    assert systems.named(["base=runs/a", "b/mine.parquet", str(odd)]) == {
        "base": Path("runs/a"),
        "mine": Path("b/mine.parquet"),
        "split=test": odd,
    }
    with pytest.raises(InputError, match="two systems named 'a'"):
        systems.named(["a=x", "a=y"])
    with pytest.raises(InputError, match="expected NAME=PATH or PATH"):
        systems.named(["=x"])


def test_the_baseline_is_base_where_it_is_one_of_several() -> None:
    assert systems.baseline_of({"base": Path(), "other": Path()}, None) == "base"
    assert systems.baseline_of({"base": Path()}, None) is None
    assert systems.baseline_of({"mine": Path(), "other": Path()}, None) is None


def test_tables_have_an_entry_for_every_segment_with_metrics_where_there_is_enough() -> None:
    judged = Judged(np.array([[0.5], [0.75]]), np.array([[[0.5], [0.75]]]))
    found = systems.tables(
        ["base", "other"], "base", ["auc"], {"all": (judged, {"rows": 9}), "cold": (None, {"rows": 1})}
    )
    assert found == {
        "systems": {
            "base": {"all": {"auc": [0.5, 0.5, 0.5], "rows": 9}, "cold": {"rows": 1}},
            "other": {"all": {"auc": [0.75, 0.75, 0.75], "rows": 9}, "cold": {"rows": 1}},
        },
        "differences": {"other - base": {"all": {"auc": [0.25, 0.25, 0.25], "rows": 9}, "cold": {"rows": 1}}},
        "replicates": {"base": {"all": {"auc": np.array([0.5])}}, "other": {"all": {"auc": np.array([0.75])}}},
    }
