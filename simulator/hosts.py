"""What the host model knows of users and warm items: the vectors that it has learned, which the filter learns from."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from recsys.config import Config
from recsys.data.encode import ITEM, USER
from recsys.errors import InputError
from recsys.evaluate.vectors import read_vectors
from recsys.tables import checkpoint
from recsys.tables.locks import reading
from recsys.tables.parts import Table, tables_of
from recsys.tables.stored import StoredTensor
from simulator.population import Population

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Host:
    """Vectors of the population's U users and I items; 4 (U + I) D bytes. A row that nothing was learned for is zero.

    Both sides are scaled, each by one number: e_u . e_i has a variance of 1 over all pairs of known ones, and users and
    items are of the same length in the mean square. So losses on either weigh the same for any host.

    Attributes:
        users: [U, D] e_u.
        items: [I, D] e_i.
        known_users: [U] which of them have learned rows.
        known_items: [I] likewise; no cold item has one.
        base: the version of the tables that they were read from, or a digest of the vectors.
    """

    users: Matrix
    items: Matrix
    known_users: Mask
    known_items: Mask
    base: str


def read(config: Config, population: Population) -> Host:
    """The vectors of `simulator.filter.host`, or the ID tables of the run's best checkpoint.

    Raises:
        InputError: a folder that is not as `recsys.evaluate.vectors` has it, no trained run, a damaged checkpoint, one
            without a table of users and of items of the same width, values that are not finite, or no user or no warm
            item that anything was learned for.
    """
    named = config.simulator.filter.host
    found = _of_folder(Path(named), population) if named else _of_run(Path(config.run), population)
    for what, known in (("user", found.known_users), ("warm item", found.known_items)):
        if not known.any():
            raise InputError(f"{named or config.run}: expected a learned vector of some {what}, found none")
    return _scaled(found)


def _of_folder(folder: Path, population: Population) -> Host:
    found = read_vectors(folder, population.users, population.items)
    warm = np.arange(len(population.items)) < population.warm
    told = hashlib.sha256(found.users.tobytes() + found.items.tobytes()).hexdigest()
    return Host(found.users, found.items, ~found.unknown_users, ~found.unknown_items & warm, told)


def _of_run(run: Path, population: Population) -> Host:
    with reading(run):
        source = checkpoint.best(run / "checkpoints")
        tables = {table.name: table for table in tables_of(run, source)}
        if missing := sorted({USER, ITEM} - tables.keys()):
            raise InputError(f"{source}: no table {missing[0]}: expected a ranker with a feature of that name")
        users, known_users = _rows(source, tables[USER], population.users)
        items, known_items = _rows(source, tables[ITEM], population.items)
        base = checkpoint.version_of(source).base
    if users.shape[1] != items.shape[1]:
        raise InputError(f"{source}: expected tables of one width, found {users.shape[1]} and {items.shape[1]}")
    known_items &= np.arange(len(population.items)) < population.warm
    return Host(users, items, known_users, known_items, base)


def _rows(source: Path, table: Table, ids: pa.Array) -> tuple[Matrix, Mask]:
    """Vectors [n, D] of these ids, and which of them have training rows."""
    rows = table.ids.rows(ids)
    known = np.append(0, table.ids.counts)[rows] > 0
    stored = StoredTensor(source, table.tensor)
    stored.check(range(table.rows))
    found = stored.take(torch.from_numpy(rows)).float().numpy()
    bad = ~np.isfinite(found).all(axis=1) & known
    if bad.any():
        raise InputError(
            f"{source}: table {table.name}: id {ids[int(np.argmax(bad))].as_py()!r}: expected finite values"
        )
    return found, known


def _scaled(host: Host) -> Host:
    users, items = (rows[known].astype(np.float64) for rows, known in _sides(host))
    # The mean square of all products, without making them: the trace of both sides' second moments multiplied.
    square = float(np.sum((users.T @ users) * (items.T @ items)) / (len(users) * len(items)))
    spread = _root(square - float(users.mean(0) @ items.mean(0)) ** 2)
    lengths = [_root(float(np.square(side).sum(axis=1).mean())) for side in (users, items)]
    length = (lengths[0] * lengths[1] / spread) ** 0.5
    made = [
        np.where(known[:, None], rows * (length / before), 0).astype(np.float32)
        for (rows, known), before in zip(_sides(host), lengths, strict=True)
    ]
    return replace(host, users=made[0], items=made[1])


def _sides(host: Host) -> list[tuple[Matrix, Mask]]:
    return [(host.users, host.known_users), (host.items, host.known_items)]


def _root(square: float) -> float:
    return max(square, 1e-12) ** 0.5
