"""Stage 1 beside its rivals: the same items for all, paired differences, a file that tells what the table shows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from proxy.align import align, aligned, learnable
from proxy.compare import compare, table
from proxy.retrieval import find, measures
from proxy.targets import TEST
from recsys.config import Config
from recsys.distributed import process_group
from recsys.settings import parse, plain
from tests import tiny
from tests.proxy import runs
from tests.ranks import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def config(home: Path, vectors: Path) -> Config:
    tree = plain(runs.config(home, epochs=1))
    return parse({**tree, "floor": {"content": str(vectors)}, "evaluate": {"replicates": 50}})


def work(made: Config) -> tuple[dict[str, Any], list[float]]:
    """What is told, and the aligned encoder's auc by hand."""
    with process_group() as ranks:
        align(made, ranks)
        told = compare(made, ranks)
        targets, content = learnable(made, ranks)
        kept = np.array([name.as_py() != "item 03" for name in targets.ids])
        targets, content = targets.take(np.flatnonzero(kept)), content.take(np.flatnonzero(kept))
        asked = targets.of(TEST)
        proxies = aligned(made, tiny.config(Path(), Path()).model.dim).encode(content.take(asked)).detach()
        found = measures(find(proxies, targets.unit, asked), len(targets.ids), [])
        return told, found.mean(axis=1).tolist()


def test_all_systems_are_judged_on_the_same_items(home: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.parquet"
    random = np.random.default_rng(0)
    rows = [None if k == 3 else list(random.normal(size=6)) for k in range(tiny.ITEMS)]
    ids = [f"item {k:02d}" for k in range(tiny.ITEMS)]
    pq.write_table(pa.table({"item_id": ids, "vector": pa.array(rows, pa.list_(pa.float32()))}), vectors)
    made = config(home, vectors)
    outs = run_ranks(2, work, made)
    told, by_hand = outs[0]
    assert json.loads((home / "run" / "proxy" / "align" / "retrieval.json").read_text()) == told == outs[1][0]
    assert list(told["systems"]) == ["v3", "v1", "v2", "ridge", "ridge/even"]
    found = told["systems"]["v3"]
    assert [found[name][0] for name in ("mrr", "auc", "cosine")] == pytest.approx(by_hand, rel=1e-4)
    gain = told["minus"]["ridge"]["v3"]["auc"]
    assert gain[0] == pytest.approx(found["auc"][0] - told["systems"]["ridge"]["auc"][0])
    assert gain[1] <= gain[0] <= gain[2]
    with Console(width=200).capture() as _, Console(width=200, record=True) as console:
        console.print(table(told))
    text = console.export_text()
    assert f"{told['items']} left-out items among {told['among']}" in text
    assert "{:.3f} [{:.3f}, {:.3f}]".format(*gain) in text
