"""The map from first feedback to ID vectors as one file of tensors; what it was learned from is told in its metadata.

<run>/prompt/map.safetensors
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys.errors import InputError
from recsys.files import replacing
from recsys.floor.ridge import Ridge
from recsys.prompt.start import Map
from recsys.prompt.summary import Centre
from recsys.prompt.values import Values

NAME = "map.safetensors"
FORMAT = 2
"""Of the file; part of the key, so that one of another format is made anew."""
_RIDGE = ("mean_x", "mean_y", "weights", "residual")


def save(folder: Path, key: str, learned: Map, known: Values) -> None:
    """Write the file, whole or not at all; `key`: a digest of all that it depends on."""
    tensors = {"mean": learned.mean.numpy(), "centre.state": learned.centre.state}
    tensors |= {"centre.label": np.array([learned.centre.label])}
    tensors |= {"values.mean": known.mean, "values.spread": np.array([known.spread])}
    for size, ridge in learned.ridges.items():
        tensors |= {f"{size}.{name}": getattr(ridge, name) for name in _RIDGE}
        tensors[f"{size}.told"] = np.array([ridge.penalty, *ridge.errors])
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / NAME) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial, {"key": key})


def load(folder: Path, key: str) -> tuple[Map, Values] | None:
    """What was saved under this key; None: nothing, or of another key.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            if file.metadata().get("key") != key:
                return None
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        sizes = sorted(int(name.split(".")[0]) for name in found if name.endswith(".told"))
        ridges = {size: _ridge(found, size) for size in sizes}
        centre = Centre(found["centre.state"], float(found["centre.label"][0]))
        known = Values(found["values.mean"], float(found["values.spread"][0]))
        return Map(torch.from_numpy(found["mean"]), centre, ridges), known
    except (SafetensorError, OSError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: damaged: expected what tools.prompt writes: {error}") from None


def _ridge(found: dict[str, np.ndarray], size: int) -> Ridge:
    penalty, *errors = found[f"{size}.told"].tolist()
    mean_x, mean_y, weights, residual = (found[f"{size}.{name}"] for name in _RIDGE)
    return Ridge(mean_x, mean_y, weights, penalty, tuple(errors), residual)
