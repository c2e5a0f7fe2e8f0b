"""The deltas that a bundle holds: rows on top of its parts, in the order in which they were applied.

    <bundle>/deltas/00000400-00000007/              a delta as it is everywhere, by the step and delta that it led to
    <bundle>/deltas/probe-00000400-00000007.parquet what the probe rows score since then

The parts are never written to. Only what the manifest names is read, and it is replaced last, in one step: a process
that dies before leaves files that nobody reads, and the next delta clears them away. Needs torch and pyarrow alone.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from recsys.errors import InputError
from recsys.tables import delta, manifest
from recsys.tables.delta import Delta
from recsys.tables.piece import Piece, arrow
from recsys.tables.vectors import TableVectors

FOLDER = "deltas"


@dataclass(frozen=True)
class Held:
    """A delta that a bundle holds; rows with the number `after` or before it are not taken from it."""

    name: str
    after: int
    delta: Delta


def held(folder: Path, told: dict[str, Any]) -> list[Held]:
    """The deltas that a bundle's manifest names, in order.

    Raises:
        InputError: one that is not as it must be, or does not fit the bundle's tables.
    """
    found = []
    for entry in told["deltas"]:
        name, after = entry["name"], entry["after"]
        place = folder / FOLDER / name
        if f"{FOLDER}/{name}/{manifest.NAME}" not in told["files"] or PurePosixPath(name).name != name:
            raise InputError(f"{folder / manifest.NAME}: delta {name} is not among its files")
        each = delta.parse(place, manifest.read(place, delta.FORMAT))
        require_fit(folder, told, each)
        found.append(Held(name, after, each))
    return found


def require_fit(folder: Path, told: dict[str, Any], each: Delta) -> None:
    """Refuse a delta of other tables than the bundle's.

    Raises:
        InputError: it names a table, a width or a type of ids that the bundle does not have.
    """
    for name, stored in each.taken_by("serving").items():
        table = told["tables"].get(name)
        if table is None:
            raise InputError(f"{each.folder}: table {name}: {folder} has {', '.join(told['tables'])}")
        if (stored.dim, stored.id_type) != (table["dim"], table["id_type"]):
            raise InputError(
                f"{each.folder}: table {name}: expected width {table['dim']} and ids of type {table['id_type']}, found "
                f"{stored.dim} and {stored.id_type}"
            )


def require_rows(told: dict[str, Any], each: Delta) -> None:
    """Look at every row of a delta before anything is done with it.

    Raises:
        InputError: damaged, or a row beyond its table's capacity.
    """
    mine = each.taken_by("serving")
    each.check(lambda piece: _require_rows(told["tables"][piece.table], each, piece) if piece.table in mine else None)


def _require_rows(table: dict[str, Any], each: Delta, piece: Piece) -> None:
    if len(piece.rows) and int(piece.rows[-1]) >= table["capacity"]:
        raise InputError(
            f"{each.folder}: table {piece.table}: row {int(piece.rows[-1])}: it has rows 0 to {table['capacity'] - 1}"
        )


def put(
    deltas: list[Held], name: str, table: dict[str, Any], ids: pa.Array, vectors: TableVectors | None = None
) -> pa.Array:
    """Put a table's rows of all the deltas into its vectors; the ids [rows] that then own them, null is nobody.

    Raises:
        InputError: a row beyond the table's capacity, or a piece that is not as a delta must be.
    """
    rows, owners = [torch.zeros(0, dtype=torch.int64)], [ids[:0]]
    for each in deltas:
        for piece in each.delta.pieces(name, after=each.after) if name in each.delta.taken_by("serving") else ():
            _require_rows(table, each.delta, piece)
            rows.append(piece.rows)
            owners.append(piece.ids.cast(ids.type))
            if vectors is not None:
                vectors.put(piece.rows, piece.vectors)
    named = torch.cat(rows)
    if not len(named):
        return ids
    # Of a row that several deltas name the last counts: `choice` is written in their order.
    choice = torch.full((max(len(ids), int(named.max()) + 1),), -1)
    choice[: len(ids)] = torch.arange(len(ids))
    last = torch.zeros_like(choice).scatter_reduce_(0, named, torch.arange(1, len(named) + 1), "amax")
    choice = torch.where(last > 0, len(ids) + last - 1, choice)
    places = arrow(choice)
    places = pc.if_else(pc.less(places, 0), None, places)
    return pa.concat_arrays([ids, *owners]).take(places)
