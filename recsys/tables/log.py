"""A run's deltas in order: `<run>/deltas/00000007-00000007/`, and compacted ones such as `00000001-00000005/`.

The log is what a run's checkpoints, id maps and bundle catch up with (`recsys.tables.service`): a command that changes
rows appends a delta, and is done with it once that has its name; what then dies catches up when it is next asked. A
delta leaves the log by `compact` and `retire` alone. Whoever changes the log holds `recsys.tables.locks.changing`, who
reads it `reading`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import torch

from recsys.errors import InputError
from recsys.files import creating, discard, replacing
from recsys.tables import delta
from recsys.tables.delta import Delta
from recsys.tables.piece import Piece

_RETIRED = "retired.json"


def folder_of(run: Path) -> Path:
    """Where a run's deltas are."""
    return run / "deltas"


def append(
    run: Path,
    pieces: Iterable[Piece],
    forced: bool = False,
    made_of: Iterable[str] = (),
    check: Callable[[Delta], object] = lambda each: None,
) -> Delta:
    """Write the next delta of the log.

    Args:
        pieces: the rows, each table's in order.
        forced, made_of: as `recsys.tables.delta.Delta` has them.
        check: looks at the delta before it is in the log, and raises where it must not be.

    Raises:
        InputError: a piece that is not as a delta must be, or `check`'s; nothing is written.
    """
    number = newest(run) + 1
    path = folder_of(run) / _name(number, number)
    with creating(path) as partial:
        try:
            check(delta.write(partial, pieces, number, number, None, forced, made_of))
        except InputError as error:
            raise InputError(str(error).replace(str(partial), str(path))) from None
    return delta.read(path)


def newest(run: Path) -> int:
    """The number of the newest delta, which may have left the log; 0: there never was one."""
    return max([last for _, last in _spans(run)], default=_retired(run)[0])


def pending(run: Path, applied: int) -> list[Delta]:
    """The deltas that follow `applied`, in order; see `following`."""
    return list(following(run, applied))


def following(run: Path, applied: int) -> Iterator[Delta]:
    """The deltas that follow `applied`, in order, each checked whole; the longest where compacted ones overlap.

    Raises:
        InputError: a damaged one, or the log no longer goes back that far.
    """
    spans = _spans(run)
    while applied < newest(run):
        fitting = [(last, first) for first, last in spans if first <= applied + 1 and last > applied]
        if not fitting:
            raise InputError(
                f"{folder_of(run)}: expected delta {applied + 1} next, which is no longer there: export or train anew"
            )
        applied, first = max(fitting)
        yield delta.read(folder_of(run) / _name(first, applied))


def holding(run: Path, digest: str) -> bool:
    """Whether rows from elsewhere, by their delta's digest, are in the log or have been."""
    return digest in _retired(run)[1] or any(digest in (each.digest, *each.made_of) for each in every(run))


def every(run: Path) -> list[Delta]:
    """All deltas of the log, in order, each checked whole."""
    spans = _spans(run)
    return pending(run, spans[0][0] - 1) if spans else []


def naming(run: Path, table: str, rows: torch.Tensor) -> Iterator[tuple[Delta, torch.Tensor]]:
    """The deltas of the log that name any of `rows` [n] of a table, with those that they name."""
    for each in every(run):
        if table in each.tables:
            named, _ = each.owners(table)
            if len(both := named[torch.isin(named, rows)]):
                yield each, both


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
    made_of = [digest for each in chain for digest in (each.digest, *each.made_of)]
    with creating(path) as partial:
        delta.write(partial, merged(chain), first, last, None, any(each.forced for each in chain), made_of)
    _drop_contained(run)
    return delta.read(path)


def retire(run: Path, held: int) -> int:
    """Remove the deltas up to `held`, which every checkpoint and bundle must have; returns how many.

    That they were there is kept: who has not taken them is told so, and their numbers are not given again.
    """
    gone = [span for span in _spans(run) if span[1] <= held]
    if gone:
        digests = _retired(run)[1]
        for span in gone:
            each = delta.read(folder_of(run) / _name(*span))
            digests |= {each.digest, *each.made_of}
        with replacing(folder_of(run) / _RETIRED) as partial:
            partial.write_text(json.dumps({"last": max(last for _, last in gone), "made_of": sorted(digests)}))
    for span in _named(run):
        if span[1] <= _retired(run)[0]:
            discard(folder_of(run) / _name(*span))
    return len(gone)


def follow(run: Path, last: int) -> None:
    """Begin the log of a run whose tables hold the deltas up to `last` of the run before it: the next is the one after.

    For a run that has none yet. Bundles and checkpoints of the run before can so go on with this one's deltas.
    """
    if last and not newest(run):
        with replacing(folder_of(run) / _RETIRED) as partial:
            partial.write_text(json.dumps({"last": last, "made_of": []}))


def merged(chain: list[Delta]) -> Iterator[Piece]:
    """The rows of consecutive deltas, each as the last that names it says; by table and row.

    Rows are gone through in ranges that hold at most a piece's worth of each delta, so that memory is bounded by the
    number of deltas and not by their rows.
    """
    for table in dict.fromkeys(name for each in chain for name in each.tables):
        if len(audiences := {each.tables[table].audience for each in chain if table in each.tables}) > 1:
            raise InputError(f"{chain[-1].folder}: table {table}: rows for {' and for '.join(sorted(audiences))}")
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
        table=parts[0].table,
        rows=torch.cat([part.rows for part in parts]),
        ids=pa.concat_arrays([part.ids for part in parts]),
        vectors=torch.cat([part.vectors for part in parts]),
        state=torch.cat([part.state for part in parts]),
        sources=_joined([part.sources for part in parts]),
        bases=_joined([part.bases for part in parts]),
        numbers=torch.cat([part.numbers for part in parts]),
        audience=parts[-1].audience,
    )
    yield together.take(order[last])


def _joined(columns: list[pa.Array]) -> pa.Array:
    return pa.chunked_array(columns).unify_dictionaries().combine_chunks()


def _sliced(piece: Piece, start: int, stop: int) -> Piece:
    ids, sources, bases = (each[start:stop] for each in (piece.ids, piece.sources, piece.bases))
    rows, vectors, state, numbers = (
        each[start:stop] for each in (piece.rows, piece.vectors, piece.state, piece.numbers)
    )
    return Piece(piece.table, rows, ids, vectors, state, sources, bases, numbers, piece.audience)


def _require_one_kind(chain: list[Delta]) -> None:
    kinds = {(base.lineage, base.dense): each.folder for each in chain for base in each.bases}
    if len(kinds) > 1:
        first, other = list(kinds.values())[:2]
        raise InputError(f"{other}: rows made for other tables than those of {first}: apply them, do not compact them")


def _name(first: int, last: int) -> str:
    return f"{first:08d}-{last:08d}"


def _spans(run: Path) -> list[tuple[int, int]]:
    """First and last number of every delta of the log, sorted."""
    retired = _retired(run)[0]
    return [span for span in _named(run) if span[1] > retired]


def _named(run: Path) -> list[tuple[int, int]]:
    """The same of every folder that has a delta's name, sorted, a retired one that is still there too."""
    found: list[tuple[int, int]] = []
    for path in folder_of(run).glob("*-*"):
        first, _, last = path.name.partition("-")
        if first.isdigit() and last.isdigit() and _name(int(first), int(last)) == path.name:
            found.append((int(first), int(last)))
    return sorted(found)


def _retired(run: Path) -> tuple[int, set[str]]:
    """The newest delta that has left the log, 0 is none, and what those that have were made of.

    Raises:
        InputError: the file that tells cannot be read.
    """
    path = folder_of(run) / _RETIRED
    try:
        told = json.loads(path.read_text())
        return int(told["last"]), set(told["made_of"])
    except FileNotFoundError:
        return 0, set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _drop_contained(run: Path) -> None:
    """Remove the deltas that a compacted one holds."""
    spans = _spans(run)
    for first, last in spans:
        if any(a <= first and last <= b and (a, b) != (first, last) for a, b in spans):
            discard(folder_of(run) / _name(first, last))
