"""A run's rows everywhere: its checkpoints, id maps and bundle brought up to the run's log of deltas.

The log leads. A command that changes rows appends a delta to it and then calls `catch_up`; one that reads a run calls
`catch_up` first, so that what a dead command has left undone is done then. Of the checkpoints the newest and the best
are kept up; a training process takes deltas into its live model between two validations (`recsys.train`).
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.ids import UNKNOWN, IdMap
from recsys.errors import InputError
from recsys.files import sweep
from recsys.tables import checkpoint, log
from recsys.tables.delta import Delta
from recsys.tables.locks import changing, require_idle
from recsys.tables.order import MAX_STALENESS, require_kind
from recsys.tables.patch import patch, require_fit
from recsys.tables.piece import Piece
from recsys.tables.refresh import refresh, version_of
from recsys.tables.version import Version

_LOG = logging.getLogger(__name__)


def publish(
    run: Path,
    make: Callable[[], Iterable[Piece]],
    made_of: Delta | None = None,
    force: bool = False,
    evict: bool = False,
    stale: int = MAX_STALENESS,
) -> Delta | None:
    """Append a delta to the run's log and bring everything up to it.

    Args:
        make: gives the rows, each table's in order, once everything else is up to the log; nobody else may read or
            change the run meanwhile, so what is dear to make is made before. No pieces at all make no delta.
        made_of: the delta from elsewhere that the rows are of.
        force: let rows in that were made for another trained dense part.
        evict: rows may lose their owner.

    Raises:
        InputError: `make`'s, or rows that the run's tables and id maps cannot take; nothing has changed then.
    """
    with changing(run):
        _catch_up(run, stale)
        pieces = iter(make())
        first = next(pieces, None)
        if first is None:
            return None
        digests = [made_of.digest] if made_of else []
        delta = log.append(
            run, chain([first], pieces), force, digests, lambda each: _require_fit(run, each, force, evict)
        )
        _catch_up(run, stale)
    return delta


def take(run: Path, delta: Delta, force: bool = False, stale: int = MAX_STALENESS) -> Delta | None:
    """Make a delta from elsewhere the next of the run's log, and bring everything up to it; see `publish`.

    None: its rows have come into the log before.

    Raises:
        InputError: it is damaged or not for this run's tables; nothing has changed then.
    """
    if delta.steps:
        raise InputError(f"{delta.folder}: what training changed goes to a bundle, not into the log of a run")
    for path in _checkpoints(run):
        require_kind(checkpoint.version_of(path), delta, str(path), force)

    def pieces() -> Iterator[Piece]:
        if not log.holding(run, delta.digest):
            for table in delta.tables:
                yield from delta.pieces(table)

    return publish(run, pieces, made_of=delta, force=force, stale=stale)


def catch_up(run: Path, stale: int = MAX_STALENESS, bundle: bool = True) -> None:
    """Bring the newest and the best checkpoint, the id maps and the bundle up to the log.

    Args:
        bundle: the bundle too; one that cannot follow is told of and left behind, since a new export mends it.

    Raises:
        InputError: a delta is damaged, missing or not for these tables.
    """
    if log.newest(run):
        with changing(run):
            _catch_up(run, stale, bundle)


def compact(run: Path) -> Delta | None:
    """Make one delta of all in the run's log (`recsys.tables.log.compact`)."""
    with changing(run):
        return log.compact(run)


def apply_to(
    target: Path, deltas: list[Delta], force: bool = False, stale: int = MAX_STALENESS
) -> tuple[Path, Version]:
    """Give a bundle or a checkpoint, wherever it is, those of the deltas that it does not hold yet.

    Returns:
        Where it is then (a checkpoint's name tells its deltas), and its version.

    Raises:
        InputError: it is neither, or cannot take one of them; it is as it was.
    """
    try:
        checkpoint.version_of(target)
    except InputError:
        with changing(target.parent):
            return target, refresh(target, deltas, force, stale)
    with changing(target.parent.parent):
        target = patch(target, deltas, force, stale)
    return target, checkpoint.version_of(target)


def holders(run: Path) -> dict[Path, int]:
    """What `catch_up` keeps up, and the newest delta that each has come to."""
    found = {path: checkpoint.version_of(path).delta for path in _checkpoints(run)}
    found |= {path: IdMap.load(path).delta for path in _maps(run)}
    if (bundle := run / "export").exists():
        found[bundle] = version_of(bundle).delta
    return found


def retire(run: Path) -> int:
    """Remove the log's deltas that everything here holds; how many. Whoever else has not taken them cannot any more.

    Raises:
        InputError: the run is being trained: the live model may still have to take them.
    """
    with changing(run):
        require_idle(run)
        return log.retire(run, min(holders(run).values(), default=0))


def _catch_up(run: Path, stale: int, bundle: bool = True) -> None:
    for folder in (log.folder_of(run), run / "checkpoints", run / "encoder"):
        sweep(folder)
    for path in _checkpoints(run):
        patch(path, log.pending(run, checkpoint.version_of(path).delta), stale=stale)
    for path in _maps(run):
        _catch_up_map(run, path)
    if bundle and (run / "export").exists():
        try:
            refresh(run / "export", log.pending(run, version_of(run / "export").delta), stale=stale)
        except InputError as error:
            _LOG.warning("%s: it stays without the newest rows until it is exported anew", error)


def _checkpoints(run: Path) -> list[Path]:
    newest = checkpoint.latest(run / "checkpoints")
    return sorted({newest, checkpoint.best(run / "checkpoints")}) if newest else []


def _maps(run: Path) -> list[Path]:
    return sorted((run / "encoder").glob("*.parquet"))


def _require_fit(run: Path, each: Delta, force: bool, evict: bool) -> None:
    """Refuse a delta that not everything could take, before it is in the log."""
    paths = _checkpoints(run)
    if not paths:
        raise InputError(f"{run}: no checkpoint: train first")
    for path in paths:
        require_kind(checkpoint.version_of(path), each, str(path), force)
        require_fit(path, each)
    for path in _maps(run):
        _require_owners(IdMap.load(path), each, evict)


def _require_owners(ids: IdMap, each: Delta, evict: bool) -> None:
    """A row keeps its owner, or nobody owns it yet; and no id gets a second row."""
    if ids.name not in each.taken_by("training"):
        return
    if each.tables[ids.name].id_type != str(ids.ids.type):
        raise InputError(
            f"{each.folder}: table {ids.name}: expected ids of type {ids.ids.type}, found "
            f"{each.tables[ids.name].id_type}"
        )
    rows, owners = each.owners(ids.name)
    now = ids.owners(rows.numpy())
    changes = pc.and_(now.is_valid(), pc.invert(pc.fill_null(pc.equal(now, owners), evict)))
    if pc.any(changes).as_py():
        k = pc.index(changes, True).as_py()
        raise InputError(
            f"{each.folder}: table {ids.name}: row {int(rows[k])} is owned by {now[k]}, not by {owners[k]}: rows made "
            "for other ids"
        )
    _with_owners(ids, each)


def _catch_up_map(run: Path, path: Path) -> None:
    ids = IdMap.load(path)
    pending = log.pending(run, ids.delta)
    for each in pending:
        ids = replace(_with_owners(ids, each), delta=each.last)
    if pending:
        ids.save(path)


def _with_owners(ids: IdMap, each: Delta) -> IdMap:
    """The id map with the owners that a delta names."""
    if ids.name not in each.taken_by("training"):
        return ids
    rows, owners = each.owners(ids.name, ids.delta)
    owned = (rows != UNKNOWN).numpy()
    return ids.assign(rows.numpy()[owned], owners.filter(pa.array(owned)))
