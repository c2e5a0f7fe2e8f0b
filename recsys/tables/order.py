"""Whether tables of one version may take a delta: lineage, trained dense part, place in the log, staleness."""

import logging
from dataclasses import replace

from recsys.config import Tables
from recsys.errors import InputError
from recsys.tables.delta import Delta
from recsys.tables.version import Version

_LOG = logging.getLogger(__name__)
MAX_STALENESS = Tables().max_staleness
"""Training steps between the tables that rows were made for and those they go to, past which a warning is given."""


def accepts(found: Version, delta: Delta, where: str, force: bool = False, stale: int = MAX_STALENESS) -> bool:
    """True: tables of version `found` take the delta next; False: they have it already.

    Args:
        where: what is named in messages as the target.
        force: take rows that were made for another trained dense part.

    Raises:
        InputError: it is of another lineage or dense part, a delta before it is missing, or it is a difference between
            states of training that does not start where the tables are.
    """
    require_kind(found, delta, where, force)
    if _has(found, delta):
        return False
    if delta.first > delta.last and not delta.steps:
        raise InputError(f"{delta.folder}: it has no place in a run's log: apply it to the run, which gives it one")
    if delta.first > found.delta + 1:
        raise InputError(
            f"{where}: has deltas up to {found.delta}: expected {found.delta + 1} next, not {delta.folder}"
        )
    if delta.steps:
        _require_start(found, delta, where)
    for base in delta.bases:
        if abs(found.step - base.step) > stale:
            _LOG.warning(
                "%s: rows made for step %d go to %s, which is at step %d", delta.folder, base.step, where, found.step
            )
    return True


def after(found: Version, delta: Delta) -> Version:
    """The version of tables that have taken the delta."""
    step = delta.steps[1] if delta.steps else found.step
    return replace(found, step=max(found.step, step), delta=max(found.delta, delta.last))


def beyond(found: Version, delta: Delta) -> int:
    """The `after` of `Delta.pieces` with which tables of version `found` take no row that they hold already.

    They may have been trained on since, so even the same row must not come again.
    """
    return -1 if delta.steps else found.delta


def _has(found: Version, delta: Delta) -> bool:
    if delta.steps:
        return delta.last <= found.delta and delta.steps[1] <= found.step
    return delta.first <= delta.last <= found.delta


def require_kind(found: Version, delta: Delta, where: str, force: bool = False) -> None:
    """Refuse rows of another lineage, and unless forced rows made for another trained dense part.

    Raises:
        InputError: they are.
    """
    for base in delta.bases:
        if base.lineage != found.lineage:
            raise InputError(
                f"{delta.folder}: rows of lineage {base.lineage}, but {where} is of {found.lineage}: other features, "
                "widths or ids in other rows; such rows cannot be used"
            )
        if base.dense != found.dense and not force:
            raise InputError(
                f"{delta.folder}: rows made for the training run {base.dense}, but {where} is of {found.dense}: make "
                "them anew, or say --force"
            )


def _require_start(found: Version, delta: Delta, where: str) -> None:
    assert delta.steps
    start, end = delta.steps
    if found.step < start:
        raise InputError(
            f"{delta.folder}: holds what changed from step {start} on, but {where} is at step {found.step}"
        )
    if found.step > end:
        raise InputError(f"{delta.folder}: holds what changed up to step {end}; {where} is at step {found.step}")
    if found.delta > delta.last:
        raise InputError(
            f"{delta.folder}: step {end} had deltas up to {delta.last}, but {where} has them up to {found.delta}: take "
            "the difference to a newer checkpoint"
        )
