"""A bundle's table of vectors, read from safetensors parts with torch alone: float32, or int8 with a scale a row."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys.errors import InputError

_HEADER = 100_000_000
"""Most bytes of a safetensors header, as the format itself has it."""
_DTYPES = {"F32": torch.float32, "U8": torch.uint8}


def quantise(vectors: Tensor) -> dict[str, Tensor]:
    """[n, D] float32 as uint8 `vector` [n, D] with float32 `scale` and `offset` [n]: x = vector * scale + offset.

    A row's smallest number is code 0 and its largest 255, so no number moves by more than half of range / 255.
    """
    low, high = vectors.aminmax(dim=1)
    scale = (high - low) / 255
    steps = (vectors - low.unsqueeze(1)) / scale.where(scale > 0, 1.0).unsqueeze(1)
    return {"vector": steps.round().clamp(0, 255).to(torch.uint8), "scale": scale, "offset": low}


class TableVectors:
    """Rows of one table, in one piece in memory or in parts that stay in their files."""

    def __init__(self, parts: list[dict[str, Tensor]], part_rows: int, rows: int, dim: int) -> None:
        self.parts, self.part_rows, self.rows, self.dim = parts, part_rows, rows, dim

    @classmethod
    def load(cls, folder: Path, name: str, table: dict[str, Any], mapped: bool) -> "TableVectors":
        """The table `name` as the manifest tells it.

        Raises:
            InputError: a part that is not the rows that the manifest says.
        """
        rows, dim = table["rows"], table["dim"]
        parts = []
        for part in table["parts"]:
            path = folder / part["safetensors"]
            found, expected = read(path), (part["stop"] - part["start"], dim)
            shape = tuple(found["vector"].shape) if "vector" in found else None
            if shape != expected:
                raise InputError(f"{path}: table {name}: expected vectors {expected}, found {shape}")
            coded = found["vector"].dtype == torch.uint8
            if coded and any(key not in found or found[key].shape != expected[:1] for key in ("scale", "offset")):
                raise InputError(f"{path}: table {name}: expected a scale and an offset a row beside 8-bit vectors")
            parts.append(found)
        part_rows = table["parts"][0]["stop"]
        if not mapped:
            parts, part_rows = [{key: torch.cat([part[key] for part in parts]) for key in parts[0]}], rows
        return cls(parts, part_rows, rows, dim)

    def take(self, rows: Tensor) -> Tensor:
        """[n, D] float32 vectors of rows [n] int64."""
        if len(self.parts) == 1:
            return _decoded(self.parts[0], rows)
        found = torch.empty(len(rows), self.dim)
        part_of = rows // self.part_rows
        for k in part_of.unique().tolist():
            here = part_of == k
            found[here] = _decoded(self.parts[k], rows[here] - k * self.part_rows)
        return found

    def held(self, vectors: Tensor) -> Tensor:
        """[n, D] float32 what `take` gives of such vectors once they are put: 8-bit tables round them."""
        if self.parts[0]["vector"].dtype != torch.uint8:
            return vectors
        return _decoded(quantise(vectors), torch.arange(len(vectors)))

    def put(self, rows: Tensor, vectors: Tensor) -> None:
        """Put vectors [n, D] float32 into rows [n] int64, in the table's own form; rows beyond the last are added.

        What is mapped stays as it is on disk: the pages written to become this process's own.
        """
        self._grow(int(rows.max()) + 1 if len(rows) else 0)
        coded = self.parts[0]["vector"].dtype == torch.uint8
        values = quantise(vectors) if coded else {"vector": vectors}
        part_of = rows // self.part_rows
        for k in part_of.unique().tolist():
            here = part_of == k
            for key, value in values.items():
                self.parts[k][key][rows[here] - k * self.part_rows] = value[here]

    def _grow(self, rows: int) -> None:
        if rows <= self.rows:
            return
        if len(self.parts) == 1:
            self.part_rows = max(self.part_rows, rows)  # one piece stays one piece
        for k in range(len(self.parts) - 1, -(-rows // self.part_rows)):
            size = min(rows - k * self.part_rows, self.part_rows)
            old = self.parts[k] if k < len(self.parts) else {key: value[:0] for key, value in self.parts[0].items()}
            free = {key: value.new_zeros(size - len(value), *value.shape[1:]) for key, value in old.items()}
            self.parts[k : k + 1] = [{key: torch.cat([value, free[key]]) for key, value in old.items()}]
        self.rows = rows


def _decoded(part: dict[str, Tensor], rows: Tensor) -> Tensor:
    vector = part["vector"][rows]
    if vector.dtype != torch.uint8:
        return vector
    return torch.addcmul(part["offset"][rows].unsqueeze(1), vector.float(), part["scale"][rows].unsqueeze(1))


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped: bytes are read when they are used, and writes stay in this process.

    Raises:
        InputError: not a safetensors file of float32 or uint8 tensors.
    """
    try:
        whole = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
        start = 8 + int.from_bytes(bytes(whole[:8].tolist()), "little")
        if start > _HEADER:
            raise ValueError(f"a header of {start} bytes")
        header = json.loads(bytes(whole[8:start].tolist()))
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            data = whole[start + begin : start + end]
            found[name] = data.view(_DTYPES[entry["dtype"]]).view(entry["shape"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a safetensors file of float32 or uint8 tensors: {error}") from None
    return found
