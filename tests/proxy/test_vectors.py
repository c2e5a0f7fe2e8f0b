"""Item vectors against the aligner's own forward, by torch and pyarrow."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from proxy import vectors
from proxy.align import align, aligned
from proxy.content import read
from recsys.config import Config
from recsys.distributed import process_group
from recsys.errors import InputError
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
    assert found["coarse"]["item_id"].combine_chunks().equals(content.ids)
    model = aligned(made, 8)
    with torch.inference_mode():
        states = model.encoder(model.encoder.collate(content), layers=True)
        coarse = model.encode(content)
        pools = [model.pool(one, states.mask) for one in states.layers]
        even = [one / one.pow(2).mean(1, keepdim=True).sqrt() for one in pools]
        z = [torch.stack([even[k] for k in each]).mean(0) for each in groups]
    np.testing.assert_allclose(np.stack(found["coarse"]["vector"].to_pylist()), coarse.numpy(), atol=2e-5)
    np.testing.assert_allclose(np.stack(found["layers"]["vector"].to_pylist()), torch.cat(z, 1).numpy(), atol=2e-4)
    assert found["layers"]["vector"].type.value_type == "float" and coarse.norm(dim=1).allclose(torch.ones(len(coarse)))
