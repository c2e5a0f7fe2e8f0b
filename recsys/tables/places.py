"""Where a checkpoint's tensors lie in its files, as the manifest tells it.

`torch.distributed.checkpoint` writes the same into `.metadata`, as a pickle; that file is left for its own tools, and
nothing here opens it. What the manifest tells is believed only as far as it is consistent with itself.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata

from recsys.errors import InputError
from recsys.tables import manifest

FORMAT = manifest.Format("thawrec-checkpoint", 1, "not a whole checkpoint")
_KINDS = (torch.float32, torch.float16, torch.float64, torch.int64, torch.int32, torch.bool)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _KINDS}
"""By name, the types that a tensor may be stored as."""


@dataclass(frozen=True)
class Chunk:
    """Cells [corner, corner + size) of a tensor: a `torch.save` archive of `length` bytes at `offset` of `file`."""

    file: str
    offset: NonNegativeInt
    length: NonNegativeInt
    corner: tuple[NonNegativeInt, ...]
    size: tuple[PositiveInt, ...]


@dataclass(frozen=True)
class Place:
    """A tensor's type, its size, and the chunks that it is the sum of."""

    dtype: str
    size: tuple[PositiveInt, ...]
    chunks: tuple[Chunk, ...]


Places = dict[str, Place]
"""By the tensor's name in the checkpoint."""
_places = TypeAdapter(Places)


def of_metadata(metadata: Metadata) -> dict[str, Any]:
    """The places, as the manifest tells them, of what `torch.distributed.checkpoint` has just saved."""
    found: Places = {}
    for name, entry in metadata.state_dict_metadata.items():
        assert isinstance(entry, TensorStorageMetadata), name
        chunks = []
        for k, chunk in enumerate(entry.chunks):
            at = metadata.storage_data[MetadataIndex(name, chunk.offsets, k)]
            chunks.append(Chunk(at.relative_path, at.offset, at.length, tuple(chunk.offsets), tuple(chunk.sizes)))
        dtype = str(entry.properties.dtype).removeprefix("torch.")
        assert dtype in DTYPES, (name, dtype)
        found[name] = Place(dtype, tuple(entry.size), tuple(chunks))
    return _places.dump_python(found, mode="json")


def places(folder: Path, told: dict[str, Any]) -> Places:
    """The places that the manifest of `folder` tells, each within its file and every cell of a tensor in one chunk.

    Raises:
        InputError: anything else, with the tensor.
    """
    path = folder / manifest.NAME
    try:
        found = _places.validate_python(told.get("tensors"))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: tensors {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name, place in found.items():
        if wrong := _wrong(place, told["files"]):
            raise InputError(f"{path}: tensor {name}: {wrong}")
    return found


def _wrong(place: Place, files: manifest.Files) -> str | None:
    if place.dtype not in DTYPES:
        return f"{place.dtype}: expected one of {', '.join(DTYPES)}"
    for chunk in place.chunks:
        if chunk.file not in files:
            return f"{chunk.file} is not among its files"
        if chunk.offset + chunk.length > int(files[chunk.file]["bytes"]):
            return f"{chunk.file} ends before byte {chunk.offset + chunk.length}"
        if math.prod(chunk.size) * DTYPES[place.dtype].itemsize > chunk.length:
            return f"a chunk of {chunk.size} in {chunk.length} bytes"
        if len(chunk.corner) != len(place.size) or len(chunk.size) != len(place.size):
            return f"a chunk at {chunk.corner} of {chunk.size} in a tensor of {place.size}"
        if any(at + n > all_ for at, n, all_ in zip(chunk.corner, chunk.size, place.size, strict=True)):
            return f"a chunk at {chunk.corner} of {chunk.size} reaches out of {place.size}"
    if sum(math.prod(chunk.size) for chunk in place.chunks) != math.prod(place.size):
        return f"its chunks are not all of {place.size}"
    if any(_overlap(a, b) for k, a in enumerate(place.chunks) for b in place.chunks[:k]):
        return "two chunks hold the same cells"
    return None


def _overlap(a: Chunk, b: Chunk) -> bool:
    return all(
        max(at, bt) < min(at + n, bt + m) for at, n, bt, m in zip(a.corner, a.size, b.corner, b.size, strict=True)
    )
