"""Content vectors for the items of the tiny dataset, as files and as plain tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys.data.encode import Encoder
from tests import tiny, wide

WIDTHS = {"item_coarse": 6, "item_layers": 16}
"""Of the vectors; the first table has two columns more, since fbgemm's are multiples of 4."""
BARE = 3
"""Every so many items there is one without content."""


def home(folder: Path) -> Path:
    """The wide dataset in `folder`/data, with both files beside it."""
    wide.write(folder / "data")
    write(folder)
    return folder


def write(folder: Path, items: int = tiny.ITEMS, seed: int = 0) -> dict[str, str]:
    """Write both files, the items in no order; the config's `coarse` and `layers`."""
    draws = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for key, width in zip(("coarse", "layers"), WIDTHS.values(), strict=True):
        named = draws.permutation([k for k in range(items) if k % BARE])
        vectors = draws.normal(size=(len(named), width)).astype(np.float32)
        table = pa.table({"item_id": [f"item {k:02d}" for k in named], "vector": pa.array(list(vectors))})
        paths[key] = str(folder / f"{key}.parquet")
        pq.write_table(table, paths[key])
    return paths


def model(paths: dict[str, str], place: str = "slot", layers: bool = True, **changes: Any) -> dict[str, Any]:
    """The `model` key of a tiny config with these files."""
    used = paths if layers else {"coarse": paths["coarse"]}
    small = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4}
    return {**small, "proxy": {"place": place, "adaptor": [8], "dropout": 0, **used}, **changes}


def tables(encoder: Encoder, paths: dict[str, str]) -> dict[str, Tensor]:
    """The content tables as they must be once filled, one row at a time."""
    found = {}
    for spec, path in zip(encoder.spec.content, paths.values(), strict=False):
        table = torch.zeros(spec.capacity, spec.dim, dtype=torch.float16)
        for row in pq.read_table(path).to_pylist():
            place = encoder.maps[spec.name].ids.to_pylist().index(row["item_id"]) + 1
            table[place, : len(row["vector"])] = torch.tensor(row["vector"]).half()
        found[spec.name] = table
    return found
