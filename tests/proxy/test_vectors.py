"""Item vectors against the aligner's own forward, by torch and pyarrow."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from proxy import vectors
from proxy.align import align, aligned, untrained
from proxy.content import Content, read
from proxy.model import Aligner
from proxy.targets import read as read_targets
from recsys.config import Config
from recsys.data.splits import keys_at
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.evaluate.ties import id_keys
from tests.proxy import runs
from tests.ranks import run_ranks


def write(made: Config) -> tuple[Path, str]:
    """Align for an epoch and write; a group count that the encoder has no layers for is refused."""
    with process_group() as ranks:
        align(made, ranks)
        with pytest.raises(InputError) as error:
            vectors.write(replace(made, proxy=replace(made.proxy, groups=7)), ranks)
        return vectors.write(made, ranks), str(error.value)


def test_files_hold_what_the_model_gives(home: Path) -> None:
    made = runs.config(home, epochs=1)
    made = replace(made, proxy=replace(made.proxy, groups=2, sample=20))
    [(folder, refused)] = run_ranks(1, write, made)
    assert refused == "proxy.groups: expected at most 6, the encoder's layers, found 7"
    groups = json.loads((folder / "about.json").read_text())["groups"]
    assert sorted(layer for each in groups for layer in each) == list(range(6)) and len(groups) == 2
    found = {name: pq.read_table(folder / f"{name}.parquet") for name in ("coarse", "layers")}
    [content] = read(Path(made.data.path), made.proxy.encoder)
    ids = found["coarse"]["item_id"].to_pylist()
    assert sorted(ids) == content.ids.to_pylist() and found["layers"]["item_id"].to_pylist() == ids
    targets = read_targets(made)
    fold_of = {name: int(k) for name, k in zip(targets.ids.to_pylist(), targets.fold, strict=True) if k >= 0}
    assert {0, 1} == set(fold_of.values()) and len(fold_of) < len(ids)
    for fold in (None, 0, 1):
        mine = [k for k, name in enumerate(ids) if fold_of.get(name) == fold]
        coarse, layers = by_hand(aligned(made, 8, fold), content.take([int(name[-2:]) for name in np.array(ids)[mine]]))
        z = torch.cat([torch.stack([layers[k] for k in each]).mean(0) for each in groups], 1)
        np.testing.assert_allclose(vector(found["coarse"])[mine], coarse.numpy(), atol=2e-5)
        np.testing.assert_allclose(vector(found["layers"])[mine], z.numpy(), atol=2e-4)
        assert coarse.norm(dim=1).allclose(torch.ones(len(coarse)))
    assert found["layers"]["vector"].type.value_type == "float"


def test_layers_are_grouped_on_as_many_targets_as_asked_for(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    made = runs.config(tmp_path / "home")
    made = replace(made, proxy=replace(made.proxy, sample=5))
    model, targets = untrained(made, 8).eval(), read_targets(made)
    drawn = targets.ids.take(np.argsort(keys_at(id_keys(targets.ids), 0, 7))).to_pylist()
    titles_without(Path(made.data.path), drawn[1:4])
    rest = [int(name[-2:]) for name in [drawn[0], *drawn[4:]]]
    [content] = read(Path(made.data.path), made.proxy.encoder)
    found = vectors._sample(model, made, targets)
    with torch.no_grad():
        told = content.take(rest[:10])
        states = model.encoder(model.encoder.collate(told), layers=True)
        plain = torch.stack([model.pool(one, states.mask) for one in states.layers], dim=1)
    near = torch.cdist(found.flatten(1), plain.flatten(1)).argmin(1)
    torch.testing.assert_close(found, plain[near], atol=1e-3, rtol=1e-3)
    # Two of the first five have content; of the next five, which are read whole, any may follow.
    assert found.shape == (5, 6, 384) and len(set(near.tolist())) == 5 and 0 in near
    every = vectors._sample(model, replace(made, proxy=replace(made.proxy, sample=99)), targets)
    assert len(every) == len(rest) == len(targets.ids) - 3 < len(content)


def titles_without(data: Path, items: list[str]) -> None:
    """Take these items' only text away."""
    rows = pq.read_table(data / "items.parquet")
    titles = [None if name in items else name for name in rows["item_id"].to_pylist()]
    pq.write_table(rows.set_column(1, "title", pa.array(titles, pa.string())), data / "items.parquet")


@torch.inference_mode()
def by_hand(model: Aligner, content: Content) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """p_coarse, and every layer's pooled state at root mean square 1."""
    states = model.encoder(model.encoder.collate(content), layers=True)
    pools = [model.pool(one, states.mask) for one in states.layers]
    return model.encode(content), [one / one.pow(2).mean(1, keepdim=True).sqrt() for one in pools]


def vector(table: pa.Table) -> np.ndarray:
    return np.stack(table["vector"].to_pylist())
