"""Vectors of the rivals against scikit-learn fitted on what they may have seen."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import Ridge

from proxy import rivals
from proxy.baselines import Known, ridge
from proxy.targets import TRAIN, read
from tests import tiny
from tests.proxy import runs

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def test_no_item_is_told_by_a_map_that_saw_its_id(home: Path, tmp_path: Path) -> None:
    made = runs.config(home)
    made = replace(made, run=str(tmp_path / "run"))
    shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("proxy"))
    x = np.random.default_rng(0).normal(size=(tiny.ITEMS, 6)).astype(np.float32)
    ids = [f"item {k:02d}" for k in range(tiny.ITEMS)]
    pq.write_table(pa.table({"item_id": ids, "vector": list(x)}), tmp_path / "content.parquet")
    folder = rivals.write(made, tmp_path / "content.parquet")
    found = {name: pq.read_table(folder / f"{name}.parquet") for name in ("v2", "ridge", "ridge-even")}
    targets = read(made)
    place = np.array([ids.index(name) for name in targets.ids.to_pylist()])
    known = Known(targets, x[place].astype(np.float64))
    y = targets.vectors.double().numpy()
    strangers = np.setdiff1d(np.arange(tiny.ITEMS), place)
    for name, weight in (("ridge", targets.updates.astype(float)), ("ridge-even", np.ones(len(place)))):
        told = np.stack(found[name]["vector"].to_pylist())
        for fold in (None, 0, 1):
            penalty = ridge(
                replace(known, targets=targets.without(fold)), made.floor.ridge, name == "ridge-even"
            ).penalty
            at = (targets.part == TRAIN) & (targets.fold != (-1 if fold is None else fold))
            line = Ridge(alpha=penalty).fit(known.x[at], y[at], weight[at])
            mine = strangers if fold is None else place[targets.fold == fold]
            np.testing.assert_allclose(told[mine], line.predict(x[mine]), rtol=1e-4, atol=1e-5)
    assert found["v2"]["item_id"].to_pylist() == ids and np.isfinite(np.stack(found["v2"]["vector"].to_pylist())).all()
