"""Answers of judges, so that nobody is asked twice: Parquet parts in a folder that any number of runs share.

    part-<name>.parquet    judge, context, item: digests of 16 bytes; yes: float32, P(Yes)

A part is written whole, under a name of its own, and never changed; many small ones become one when the folder is
tidied. What a part holds does not depend on the others, so processes may append at once; of equal questions that
several parts answer any one answer counts.
"""

from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config import Config
from recsys.errors import InputError
from recsys.files import locked, replacing, sweep
from simulator.digests import SIZE, Digests

DIGEST = pa.binary(SIZE)
SCHEMA = pa.schema([("judge", DIGEST), ("context", DIGEST), ("item", DIGEST), ("yes", pa.float32())])
SMALL, MANY = 65536, 64
"""Parts of fewer rows are small; from so many small ones on they are made one."""

Keys = NDArray[np.bytes_]
"""[n] digests of context and item as 32 bytes."""


def keys(contexts: Digests, items: Digests) -> Keys:
    """Of n questions, by the digests of their contexts and items."""
    return np.ascontiguousarray(np.concatenate([contexts, items], axis=1)).view(f"S{2 * SIZE}")[:, 0]


class Journal:
    """The answers of one judge: 36 bytes each in memory, and as much again while the folder is read.

    Raises:
        InputError: a part that is damaged, or none of a journal.
    """

    def __init__(self, folder: Path, judge: bytes) -> None:
        self.folder, self.judge = folder, judge
        self._held: list[tuple[Keys, NDArray[np.float32]]] = []
        with locked(folder / ".lock", shared=True):  # parts do not go while they are read
            own = [
                table.filter(pc.equal(table["judge"], pa.scalar(judge, DIGEST))) for table in map(_read, _parts(folder))
            ]
        if own and (table := pa.concat_tables(own)).num_rows:
            self._hold(keys(_bytes(table["context"]), _bytes(table["item"])), table["yes"].to_numpy())

    def find(self, asked: Keys) -> NDArray[np.float32]:
        """[n] P(Yes) of questions, NaN of those that nobody has answered."""
        found = np.full(len(asked), np.nan, np.float32)
        for known, yes in self._held:
            at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
            same = known[at] == asked
            found[same] = yes[at[same]]
        return found

    def append(self, asked: Keys, yes: NDArray[np.float32]) -> None:
        """Write answers [n] of distinct questions as a part, on the disk when this returns; none where it raises.

        Raises:
            InputError: they cannot be written.
        """
        if not len(asked):
            return
        digests = asked.view(np.uint8).reshape(-1, 2, SIZE)
        judge = pa.array([self.judge], DIGEST).take(pa.array(np.zeros(len(asked), np.int8)))
        columns = [judge, *(_digests(digests[:, side]) for side in range(2)), pa.array(yes, pa.float32())]
        _write(self.folder, pa.table(columns, schema=SCHEMA))
        self._hold(asked, yes)

    def _hold(self, asked: Keys, yes: NDArray[np.float32]) -> None:
        """Keep sorted; lists of like size are merged, so that there are few and an answer is copied few times."""
        self._held.append(_sorted(asked, yes))
        while len(self._held) > 1 and 2 * len(self._held[-1][0]) > len(self._held[-2][0]):
            pieces = [self._held.pop(), self._held.pop()]
            self._held.append(_sorted(*(np.concatenate(each) for each in zip(*pieces, strict=True))))


def folder_of(config: Config) -> Path:
    """Where a config's answers are kept."""
    return Path(config.simulator.funnel.journal or Path(config.run) / "simulator" / "judged")


def tidy(folder: Path) -> None:
    """Make one part of many small ones, and remove what killed processes left; for one process of a run, when it opens
    the folder. While another reads it nothing is done. In memory are the small parts, 52 bytes an answer.

    Raises:
        InputError: a part is damaged, or there is no space.
    """
    with suppress(BlockingIOError), locked(folder / ".lock", wait=False):
        sweep(folder)
        small = [path for path in _parts(folder) if _rows(path) < SMALL]
        if len(small) >= MANY:
            _write(folder, pa.concat_tables([_read(path) for path in small]))
            for path in small:
                path.unlink()


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    if not table.schema.equals(SCHEMA) or any(column.null_count for column in table.columns):
        raise _damaged(path, f"expected columns {', '.join(SCHEMA.names)} without nulls")
    return table


def _damaged(path: Path, reason: object) -> InputError:
    told = " ".join(str(reason).split())
    return InputError(f"{path}: damaged: {told}: remove it, and what it answered is asked again")


def _write(folder: Path, table: pa.Table) -> None:
    path = folder / f"part-{uuid4().hex}.parquet"
    try:
        with replacing(path) as partial:
            pq.write_table(table, partial, use_dictionary=["judge", "context", "item"], write_page_checksum=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be written: {error}") from None


def _sorted(asked: Keys, yes: NDArray[np.float32]) -> tuple[Keys, NDArray[np.float32]]:
    known, first = np.unique(asked, return_index=True)
    return known, yes[first]


def _digests(rows: Digests) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(DIGEST, len(rows), [None, pa.py_buffer(rows.tobytes())])


def _bytes(column: pa.ChunkedArray) -> Digests:
    flat = column.combine_chunks()
    every = np.frombuffer(flat.buffers()[1], np.uint8).reshape(-1, SIZE)
    return every[flat.offset : flat.offset + len(flat)]
