"""A delta into the tables of a live, sharded model, between two training steps."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch
import torch.distributed as dist

from recsys.distributed import Ranks, of_first, together
from recsys.errors import InputError
from recsys.tables import log
from recsys.tables.delta import Delta, read
from recsys.tables.locks import reading
from recsys.tables.order import MAX_STALENESS, accepts, after, beyond
from recsys.tables.piece import Piece
from recsys.tables.rows import Rows
from recsys.tables.sharding import Sharded
from recsys.tables.version import Version


def apply(
    delta: Delta, rows: Rows, version: Version, ranks: Ranks, force: bool = False, stale: int = MAX_STALENESS
) -> Version:
    """Write a delta's rows and their optimizer state, all of them or none; the version of the tables then. Collective.

    Each rank reads a share of the pieces twice: once to look at all of it, once to write it.

    Raises:
        InputError: the delta is damaged, is not for these tables, or names a row or a vector that a table cannot hold;
            on every rank, nothing written.
    """
    if not together(lambda: _accepted(delta, rows, version, ranks, force, stale)):
        return version
    for piece in _shares(delta, ranks, version):
        rows.write(piece.table, piece.rows, piece.vectors, piece.state)
    return after(version, delta)


def catch_up(run: Path, sharded: Sharded, version: Version, ranks: Ranks, stale: int = MAX_STALENESS) -> Version:
    """Apply what a run's log holds beyond `version`; the version of the tables then. Collective.

    Raises:
        InputError: as `apply`.
    """
    with reading(run) if ranks.is_first else nullcontext():
        folders = of_first(ranks, partial(_pending, run, version.delta))
        if folders:
            rows = Rows(sharded, ranks)
            for folder in folders:
                delta = together(partial(read, folder))
                version = apply(delta, rows, version, ranks, delta.forced, stale)
        dist.barrier()
    return version


def _pending(run: Path, applied: int) -> list[Path]:
    return [each.folder for each in log.pending(run, applied)]


def _accepted(delta: Delta, rows: Rows, version: Version, ranks: Ranks, force: bool, stale: int) -> bool:
    """Whether the delta is to be written; this rank's share of it has been looked at then."""

    def look(piece: Piece) -> None:
        if piece.table in mine and (wrong := rows.wrong(piece.table, piece.rows, piece.vectors, piece.state)):
            raise InputError(f"{delta.folder}: {wrong}")

    mine = delta.taken_by("training")
    taken = accepts(version, delta, "the model", force, stale)
    if taken:
        delta.check(look, ranks.rank, ranks.world_size)
    return taken


def _shares(delta: Delta, ranks: Ranks, version: Version) -> Iterator[Piece]:
    """This rank's pieces; as many on every rank, the missing ones empty."""
    for table, stored in delta.taken_by("training").items():
        mine = delta.pieces(table, ranks.rank, ranks.world_size, beyond(version, delta))
        none = Piece.of(table, torch.zeros(0).long(), pa.nulls(0), torch.zeros(0, stored.dim), "", version)
        for _ in range(-(-delta.groups(table) // ranks.world_size)):
            # A rank whose file has gone bad since it was looked at ends all of them.
            yield together(partial(next, mine, none))
