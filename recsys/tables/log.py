"""A run's deltas in order: `<run>/deltas/00000007-00000007/`, and compacted ones such as `00000001-00000005/`.

The log is what a run's checkpoints, id maps and bundle catch up with (`recsys.tables.service`): a command that changes
rows appends a delta, and is done with it once that has its name; what then dies catches up when it is next asked. A
delta leaves the log by `compact` and `retire` alone. Whoever changes the log holds its lock; readers need none.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import torch

from recsys.errors import InputError
from recsys.files import creating, discard, locked
from recsys.tables import delta
from recsys.tables.delta import Delta, Piece


def lock(run: Path) -> AbstractContextManager[None]:
    """One process at a time changes the log and what catches up with it."""
    return locked(folder_of(run))


def folder_of(run: Path) -> Path:
    """Where a run's deltas are."""
    return run / "deltas"


def append(
    run: Path, pieces: Iterable[Piece], after: int = 0, check: Callable[[Delta], object] = lambda each: None
) -> Delta:
    """Write the next delta of the log; the caller holds the lock.

    Args:
        pieces: the rows, each table's in order.
        after: the newest delta that is known elsewhere, should the log have been emptied.
        check: looks at the delta before it is in the log, and raises where it must not be.

    Raises:
        InputError: a piece that is not as a delta must be, or `check`'s; nothing is written.
    """
    number = max(newest(run), after) + 1
    path = folder_of(run) / _name(number, number)
    with creating(path) as partial:
        check(delta.write(partial, pieces, number, number))
    return delta.read(path)


def newest(run: Path) -> int:
    """The number of the newest delta; 0: the log is empty."""
    return max((last for _, last in _spans(run)), default=0)


def pending(run: Path, applied: int) -> list[Delta]:
    """The deltas that follow `applied`, in order, each checked whole; the longest where compacted ones overlap.

    Raises:
        InputError: a damaged one, or the log no longer goes back that far.
    """
    found = []
    spans = _spans(run)
    while any(last > applied for _, last in spans):
        fitting = [(last, first) for first, last in spans if first <= applied + 1 and last > applied]
        if not fitting:
            raise InputError(
                f"{folder_of(run)}: expected delta {applied + 1} next, which is no longer there: export or train anew"
            )
        applied, first = max(fitting)
        found.append(delta.read(folder_of(run) / _name(first, applied)))
    return found


def every(run: Path) -> list[Delta]:
    """All deltas of the log, in order, each checked whole."""
    return pending(run, min((first for first, _ in _spans(run)), default=1) - 1)


def naming(run: Path, table: str, rows: torch.Tensor) -> Iterator[tuple[Delta, torch.Tensor]]:
    """The deltas of the log that name any of `rows` [n] of a table, with those that they name."""
    for each in every(run):
        if table in each.tables:
            named = [piece.rows[torch.isin(piece.rows, rows)] for piece in each.pieces(table)]
            if len(together := torch.cat(named)):
                yield each, together


def compact(run: Path) -> Delta | None:
    """Make one of all deltas of the log, each row as the newest says; None: there are fewer than two.

    Raises:
        InputError: a damaged one, or rows of two lineages or trained dense parts.
    """
    chain = every(run)
    if len(chain) < 2:
        _drop_contained(run)
        return None
    _require_one_kind(chain)
    first, last = chain[0].first, chain[-1].last
    path = folder_of(run) / _name(first, last)
    with creating(path) as partial:
        delta.write(partial, merged(chain), first, last)
    _drop_contained(run)
    return delta.read(path)


def retire(run: Path, held: int) -> int:
    """Remove the deltas up to `held`, which every checkpoint and bundle must have; returns how many."""
    gone = [span for span in _spans(run) if span[1] <= held]
    for span in gone:
        discard(folder_of(run) / _name(*span))
    return len(gone)


def merged(chain: list[Delta]) -> Iterator[Piece]:
    """The rows of consecutive deltas, each as the last that names it says; by table and row.

    Rows are gone through in ranges that hold at most a piece's worth of each delta, so that memory is bounded by the
    number of deltas and not by their rows.
    """
    for table in dict.fromkeys(name for each in chain for name in each.tables):
        readers = [_Reader(each, table) for each in chain if table in each.tables]
        while any(reader.left for reader in readers):
            # No reader has a row below the end of its piece unread.
            end = min(int(reader.piece.rows[-1]) for reader in readers if reader.left)
            yield from _last_of([part for reader in readers if len((part := reader.until(end)).rows)])


class _Reader:
    """One delta's pieces of a table, taken by row."""

    def __init__(self, source: Delta, table: str) -> None:
        self._pieces = source.pieces(table)
        self.left = True
        self._next()

    def _next(self) -> None:
        for piece in self._pieces:
            self.piece = piece
            if len(piece.rows):
                return
        self.left = False

    def until(self, end: int) -> Piece:
        """The rows up to `end`, which are then gone."""
        if not self.left:
            return _sliced(self.piece, 0, 0)
        cut = int(torch.searchsorted(self.piece.rows, end, right=True))
        taken, n = _sliced(self.piece, 0, cut), len(self.piece.rows)
        if cut < n:
            self.piece = _sliced(self.piece, cut, n)
        else:
            self._next()
        return taken


def _last_of(parts: list[Piece]) -> Iterator[Piece]:
    """Of pieces whose rows overlap, each row as the last piece that has it; by row."""
    if not parts:
        return
    rows, order = torch.cat([part.rows for part in parts]).sort(stable=True)
    last = torch.ones(len(rows), dtype=torch.bool)
    last[:-1] = rows[1:] != rows[:-1]
    together = Piece(
        parts[0].table,
        torch.cat([part.rows for part in parts]),
        pa.concat_arrays([part.ids for part in parts]),
        torch.cat([part.vectors for part in parts]),
        torch.cat([part.state for part in parts]),
        *(_joined([getattr(part, name) for part in parts]) for name in ("sources", "bases")),
    )
    yield together.take(order[last])


def _joined(columns: list[pa.Array]) -> pa.Array:
    return pa.chunked_array(columns).unify_dictionaries().combine_chunks()


def _sliced(piece: Piece, start: int, stop: int) -> Piece:
    ids, sources, bases = (each[start:stop] for each in (piece.ids, piece.sources, piece.bases))
    rows, vectors, state = (each[start:stop] for each in (piece.rows, piece.vectors, piece.state))
    return Piece(piece.table, rows, ids, vectors, state, sources, bases)


def _require_one_kind(chain: list[Delta]) -> None:
    kinds = {(base.lineage, base.dense): each.folder for each in chain for base in each.bases}
    if len(kinds) > 1:
        first, other = list(kinds.values())[:2]
        raise InputError(f"{other}: rows made for other tables than those of {first}: apply them, do not compact them")


def _name(first: int, last: int) -> str:
    return f"{first:08d}-{last:08d}"


def _spans(run: Path) -> list[tuple[int, int]]:
    """First and last number of every delta of the log, sorted; what has no such name is not of it."""
    found = []
    for path in folder_of(run).glob("*-*"):
        first, _, last = path.name.partition("-")
        if first.isdigit() and last.isdigit() and _name(int(first), int(last)) == path.name:
            found.append((int(first), int(last)))
    return sorted(found)


def _drop_contained(run: Path) -> None:
    """Remove the deltas that a compacted one holds."""
    spans = _spans(run)
    for first, last in spans:
        if any(a <= first and last <= b and (a, b) != (first, last) for a, b in spans):
            discard(folder_of(run) / _name(first, last))
