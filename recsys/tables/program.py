"""Read a program of `torch.export` without letting it run anything while it is read.

torch's own reader unpickles what an archive calls pickled, falls back to older layouts that are pickles whole, and
evaluates sizes and guards. So the archive is inspected first: only the members, tensors and sizes that this project's
exports have pass, and the bytes inspected are the bytes loaded. Checksums show that a bundle is whole; this shows that
it is no more than a graph with tensors. Who made it, neither shows.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recsys.errors import InputError

PROGRAM = "dense.pt2"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MODEL, _SAMPLE = "models/model.json", "data/sample_inputs/model.pt"
_MEMBERS = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder|\.data/\w+"
)
_TENSOR = re.compile(r"(weight|tensor)_\d+")
_SIZE = re.compile(r"\d+|Symbol\('[su]\d+', positive=True, integer=True\)")


def load_program(path: Path) -> nn.Module:
    """The exported dense part.

    Raises:
        InputError: not a program of `torch.export`, one of another torch, or one that holds anything but a graph.
    """
    try:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _inspect(archive)
        # Guards are kept as source code; what reaches the program here has been checked.
        return torch.export.load(io.BytesIO(data)).module(check_guards=False)
    except Exception as error:  # torch.export raises what its parser raises
        raise InputError(f"{path}: not a program that torch {torch.__version__} may load: {error}") from None


def _inspect(archive: zipfile.ZipFile) -> None:
    """Raise ValueError at the first thing that an export of ours does not have."""
    root = archive.namelist()[0].partition("/")[0]
    names = [name.removeprefix(f"{root}/") for name in archive.namelist()]
    known = {*_CONFIGS, _MODEL, _SAMPLE}
    for name, entry in zip(names, archive.infolist(), strict=True):
        if name not in known and not _MEMBERS.fullmatch(name):
            raise ValueError(f"{name}: no such member is expected")
        if entry.compress_type != zipfile.ZIP_STORED or names.count(name) > 1:
            raise ValueError(f"{name}: expected once, uncompressed")
    for name in (*_CONFIGS, _MODEL):
        if name not in names:
            raise ValueError(f"{name}: missing")
    if _SAMPLE in names and archive.read(f"{root}/{_SAMPLE}"):
        raise ValueError(f"{_SAMPLE}: expected nothing: example inputs are pickled")
    for name in _CONFIGS:
        told = json.loads(archive.read(f"{root}/{name}"))
        if any(_under(told, "use_pickle")) or not all(_TENSOR.fullmatch(str(x)) for x in _under(told, "path_name")):
            raise ValueError(f"{name}: expected plain tensors, found pickled objects")
    if not all(_SIZE.fullmatch(str(x)) for x in _under(json.loads(archive.read(f"{root}/{_MODEL}")), "expr_str")):
        raise ValueError(f"{_MODEL}: expected sizes that are symbols or numbers")


def _under(tree: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from _under(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _under(value, key)
