"""A run's rows everywhere: its checkpoints, id maps and bundle brought up to the run's log of deltas.

The log leads. A command that changes rows appends a delta to it and then calls `catch_up`; one that reads a run calls
`catch_up` first, so that what a dead command has left undone is done then. Of the checkpoints the newest and the best
are kept up; a training process takes deltas into its live model between two validations (`recsys.train`).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import torch

from recsys.data.ids import UNKNOWN, IdMap
from recsys.errors import InputError
from recsys.files import sweep
from recsys.tables import checkpoint, log
from recsys.tables.delta import Delta, Piece
from recsys.tables.order import MAX_STALENESS, require_kind
from recsys.tables.patch import patch, require_fit
from recsys.tables.refresh import refresh, version_of
from recsys.tables.version import Version


def publish(
    run: Path, make: Callable[[], Iterable[Piece]], force: bool = False, stale: int = MAX_STALENESS
) -> Delta | None:
    """Append a delta to the run's log and bring everything up to it.

    Args:
        make: gives the rows, each table's in order, once everything else is up to the log and nobody else changes it;
            no pieces at all make no delta.
        force: let rows in that were made for another trained dense part.

    Raises:
        InputError: `make`'s, or rows that the run's tables and id maps cannot take; nothing has changed then.
    """
    newest = checkpoint.latest(run / "checkpoints")
    if newest is None:
        raise InputError(f"{run}: no checkpoint: train first")
    with log.lock(run):
        _catch_up(run, stale)
        pieces = iter(make())
        first = next(pieces, None)
        if first is None:
            return None
        delta = log.append(run, chain([first], pieces), held(run)[1], lambda each: _require_fit(run, each, force))
        _catch_up(run, stale)
    return delta


def take(run: Path, delta: Delta, force: bool = False, stale: int = MAX_STALENESS) -> Delta | None:
    """Make a delta from elsewhere the next of the run's log, and bring everything up to it; see `publish`.

    Raises:
        InputError: it is damaged or not for this run's tables; nothing has changed then.
    """
    if delta.steps:
        raise InputError(f"{delta.folder}: what training changed goes to a bundle, not into the log of a run")
    return publish(run, lambda: (piece for table in delta.tables for piece in delta.pieces(table)), force, stale)


def catch_up(run: Path, stale: int = MAX_STALENESS) -> int:
    """Bring the newest and the best checkpoint, the id maps and the bundle up to the log; its newest delta.

    What is in the log has been let in once, forced or not, and is not asked again which dense part it was made for.

    Raises:
        InputError: a delta is damaged, missing or not for these tables.
    """
    if not log.folder_of(run).exists():
        return 0
    with log.lock(run):
        _catch_up(run, stale)
    return log.newest(run)


def compact(run: Path) -> Delta | None:
    """Make one delta of all in the run's log (`recsys.tables.log.compact`)."""
    with log.lock(run):
        return log.compact(run)


def apply_to(target: Path, deltas: list[Delta], force: bool = False, stale: int = MAX_STALENESS) -> Version:
    """Give a bundle or a checkpoint, wherever it is, those of the deltas that it does not hold yet; its version then.

    Raises:
        InputError: it is neither, or cannot take one of them; it is as it was.
    """
    try:
        checkpoint.version_of(target)
    except InputError:
        return refresh(target, deltas, force, stale)
    return checkpoint.version_of(patch(target, deltas, force, stale))


def held(run: Path) -> tuple[int, int]:
    """The oldest and the newest delta that what `catch_up` keeps up has come to."""
    found = holders(run).values()
    return min(found, default=0), max([*found, log.newest(run)])


def holders(run: Path) -> dict[Path, int]:
    """What `catch_up` keeps up, and the newest delta that each has come to."""
    found = {path: checkpoint.version_of(path).delta for path in _checkpoints(run)}
    found |= {path: IdMap.load(path).delta for path in _maps(run)}
    if (bundle := run / "export").exists():
        found[bundle] = version_of(bundle).delta
    return found


def retire(run: Path) -> int:
    """Remove the log's deltas that everything here holds; how many. Whoever else has not taken them cannot any more."""
    with log.lock(run):
        return log.retire(run, held(run)[0])


def _catch_up(run: Path, stale: int) -> None:
    for folder in (log.folder_of(run), run / "checkpoints", run / "encoder"):
        sweep(folder)
    for path in _checkpoints(run):
        patch(path, log.pending(run, checkpoint.version_of(path).delta), True, stale)
    for path in _maps(run):
        _catch_up_map(run, path)
    if (bundle := run / "export").exists():
        refresh(bundle, log.pending(run, version_of(bundle).delta), True, stale)


def _checkpoints(run: Path) -> list[Path]:
    newest = checkpoint.latest(run / "checkpoints")
    return sorted({newest, checkpoint.best(run / "checkpoints")}) if newest else []


def _maps(run: Path) -> list[Path]:
    return sorted((run / "encoder").glob("*.parquet"))


def _require_fit(run: Path, each: Delta, force: bool) -> None:
    """Refuse a delta that not everything could take, before it is in the log."""
    for path in _checkpoints(run):
        require_kind(checkpoint.version_of(path), each, str(path), force)
        require_fit(path, each)
    for path in _maps(run):
        _with_owners(IdMap.load(path), each)


def _catch_up_map(run: Path, path: Path) -> None:
    ids = IdMap.load(path)
    pending = log.pending(run, ids.delta)
    for each in pending:
        ids = replace(_with_owners(ids, each), delta=each.last)
    if pending:
        ids.save(path)


def _with_owners(ids: IdMap, each: Delta) -> IdMap:
    """The id map with the owners that a delta names."""
    # All at once: an id may leave one row in one piece and have another row in the next.
    pieces = list(each.pieces(ids.name)) if ids.name in each.tables else []
    if not pieces:
        return ids
    rows = torch.cat([piece.rows for piece in pieces])
    owned = rows != UNKNOWN
    owners = pa.concat_arrays([piece.ids for piece in pieces]).filter(pa.array(owned.numpy()))
    return ids.assign(rows[owned].numpy(), owners)
