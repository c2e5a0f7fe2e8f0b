"""Rankers with proxies, exported: the bundle scores as the run did, from coarse and fine proxies alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.distributed import process_group
from recsys.predict import predict
from recsys.tables import checkpoint
from recsys.tables.bundle import Bundle
from recsys.tables.export import export
from recsys.tables.probe import raw_rows
from recsys.train import train
from tests import contents, wide
from tests.ranks import run_ranks
from tests.tables.test_item_content import config as of_place


def config(home: Path, place: str, layers: bool) -> Config:
    made = of_place(home, place, layers)
    return replace(made, train=replace(made.train, epochs=2, table_lr=0.3, lr=0.02, hide_ids=0.3))


def train_and_export(made: Config, int8: bool) -> None:
    with process_group() as ranks:
        train(made, ranks)
        predict(made, "test", ranks)
        export(made, ranks, int8, part_rows=7)


@pytest.mark.parametrize("place", ["slot", "feature"])
@pytest.mark.parametrize("layers", [True, False])
def test_it_scores_what_the_run_predicted(tmp_path: Path, place: str, layers: bool) -> None:
    wide.write(tmp_path / "data")
    contents.write(tmp_path)
    made = config(tmp_path, place, layers)
    run = Path(made.run)
    run_ranks(2, train_and_export, made, False)
    predicted = pq.read_table(run / "scores" / "test").sort_by("row_id")["score"].to_numpy()
    bundle = Bundle.load(run / "export")
    rows = pa.concat_tables(raw_rows(made, Encoder.load(made, run / "encoder"), "test", 10**6))
    np.testing.assert_allclose(bundle.score(rows).numpy(), predicted, atol=1e-5)
    assert "item_layers" not in bundle.vectors and ("item_fine" in bundle.vectors) == layers
    # What an item without an ID row scores is up to its content alone: the bundle has it for new items, too.
    some = rows.slice(0, 4)
    stranger, known, bare = (
        some.set_column(some.column_names.index("item_id"), "item_id", pa.array([item] * 4, pa.string()))
        for item in ("no such item", "item 29", "item 27")
    )
    assert not torch.equal(bundle.score(stranger), bundle.score(known)), "item 29 is new, and has content"
    assert torch.equal(bundle.score(stranger), bundle.score(bare)), "item 27 is new, and has none"


def test_fine_proxies_are_the_papers_equation_of_what_was_trained(tmp_path: Path) -> None:
    wide.write(tmp_path / "data")
    paths = contents.write(tmp_path)
    made = config(tmp_path, "slot", True)
    run = Path(made.run)
    run_ranks(1, train_and_export, made, True)
    bundle = Bundle.load(run / "export")
    frozen = contents.tables(Encoder.load(made, run / "encoder"), paths)
    source = checkpoint.best(run / "checkpoints")
    w = {name.split("proxies.")[1]: name for name in checkpoint.stored_tensors(source) if "proxies." in name}
    p = {name: tensor for (name, full) in w.items() for tensor in checkpoint.read(source, [full]).values()}
    count = len(bundle.ids["item_coarse"].ids) + 1
    coarse, layers = (frozen[name][:count].float() for name in ("item_coarse", "item_layers"))
    first, last = sorted(name for name in p if name.startswith("adaptor.0")), ("adaptor.1.weight", "adaptor.1.bias")
    hidden = torch.relu(layers @ p[first[1]].T + p[first[0]])
    raw = hidden @ p[last[0]].T + p[last[1]]
    gate = torch.sigmoid(torch.cat([coarse, raw], 1) @ p["gate.weight"].T)
    expected = coarse @ p["carry.weight"].T + gate * raw
    found = bundle.vectors["item_fine"].take(torch.arange(count))
    step = (expected.amax(1) - expected.amin(1)).max() / 255
    torch.testing.assert_close(found, expected, atol=float(step), rtol=0)
    assert bundle.ids["item_fine"].ids.equals(bundle.ids["item_coarse"].ids)
