"""What is judged: the rows of a split, and anybody's scores for them.

A predictions file (or a directory of part files) is Parquet with `row_id` (any integer) and `score` (a probability).
A row's id is its position in the split: files sorted by name, rows in order.

Everything is streamed by row group into compact columns: a split costs 9 bytes a row (user and item codes, label) and
each system 4 (its score), plus the distinct ids; while a file is read, 1 byte a row more marks the ids seen. On top of
these, judging holds the sorted rows of one segment at a time (`recsys.evaluate.bootstrap.Ranked`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.parquet import opened
from recsys.data.schema import split_files
from recsys.errors import InputError
from recsys.storage import Location

REPLAY = "replay"
"""What scores along a replay tell in place of a number of kept rows."""
_KINDS = {REPLAY: "what came before each row of a replay"}


@dataclass(frozen=True)
class Rows:
    """The rows of one split, in row id order."""

    user: NDArray[np.int32]
    """[N] index into `users`."""
    item: NDArray[np.int32]
    """[N] index into `items`."""
    label: NDArray[np.int8]
    """[N] 0 or 1."""
    users: pa.Array
    """[users] raw user ids."""
    items: pa.Array
    """[items] raw item ids."""


def read_rows(dataset: Location, split: str) -> Rows:
    """The split's users, items and labels, ids replaced by codes.

    Raises:
        InputError: a file that cannot be read, a missing column, a null, or a label outside {0, 1}.
    """
    users, items, labels = [], [], []
    for table in labelled_groups(dataset, split):
        users.append(_encode(table["user_id"]))
        items.append(_encode(table["item_id"]))
        labels.append(table["label"].to_numpy().astype(np.int8))
    if not sum(map(len, labels)):
        raise InputError(f"{dataset}: split {split!r} has no rows to evaluate")
    user, user_ids = _unify(users)
    item, item_ids = _unify(items)
    return Rows(user, item, np.concatenate(labels), user_ids, item_ids)


def labelled_groups(dataset: Location, split: str) -> Iterator[pa.Table]:
    """user_id, item_id and label of the split's rows, one row group in memory at a time; none where it does not exist.

    Raises:
        InputError: a file that cannot be read, a missing column, a null, or a label outside {0, 1}.
    """
    for file in split_files(dataset, split):
        for group, table in read_groups(file, ["user_id", "item_id", "label"]):
            where = f"{file}: row group {group}"
            for name in table.column_names:
                if table[name].null_count:
                    raise InputError(f"{where}: column {name!r}: expected no nulls, found {table[name].null_count}")
            label = table["label"].to_numpy()
            if ((label != 0) & (label != 1)).any():
                raise InputError(f"{where}: column 'label': expected 0 or 1, found {np.unique(label).tolist()}")
            yield table


def read_scores(
    path: Path, rows: int, split: str, fingerprint: str = "", exposure: int | str | None = None
) -> NDArray[np.float32]:
    """Scores [rows] in row id order; `fingerprint` is of the dataset whose rows the row ids must number.

    exposure: kept rows that the scores may have been made from, or REPLAY; None does not ask.

    Raises:
        InputError: a missing file or column, a wrong type, a row id that is null, out of range or there twice, a score
            outside [0, 1] or NaN (each with file, row group and row id), rows of the split without a score, or a file
            that says it was made on another dataset or from another number of kept rows.
    """
    scores = np.zeros(rows, np.float32)
    seen = np.zeros(rows, bool)
    for file in _prediction_files(path):
        for group, table in read_groups(file, ["row_id", "score"]):
            where = f"{file}: row group {group}"
            told = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            made_on, consumed = told.get("dataset"), told.get("exposure")
            if made_on and fingerprint and made_on != fingerprint:
                raise InputError(f"{file}: these scores were made on another dataset: run tools.predict again")
            if consumed and exposure is not None and consumed != str(exposure):
                raise InputError(
                    f"{file}: made from {_KINDS.get(consumed, f'{consumed} kept rows of each new item')}, not "
                    f"{_KINDS.get(str(exposure), exposure)}: --exposure, --by"
                )
            ids, found = _columns(table, where)
            _check_ids(ids, seen, split, where)
            good = (found >= 0) & (found <= 1)
            if not good.all():
                bad = int(np.argmin(good))
                raise InputError(f"{where}: row_id {ids[bad]}: expected a score in [0, 1], found {found[bad]}")
            seen[ids] = True
            scores[ids] = found
    if not seen.all():
        missing = rows - int(np.count_nonzero(seen))
        raise InputError(
            f"{path}: {missing} of the {rows} rows of split {split!r} have no score; "
            f"the first is row_id {int(np.argmin(seen))}"
        )
    return scores


def read_groups(file: Location, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """(row group number, its table) of a Parquet file, one row group in memory at a time.

    Raises:
        InputError: not a Parquet file, a column missing, or a row group that cannot be read.
    """
    try:
        parquet = opened(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read as Parquet (truncated?): {error}") from None
    with parquet:
        names = parquet.schema_arrow.names
        missing = [name for name in columns if name not in names]
        if missing:
            raise InputError(f"{file}: expected columns {', '.join(columns)}; {missing[0]!r} is missing from {names}")
        for group in range(parquet.num_row_groups):
            try:
                table = parquet.read_row_group(group, columns=columns)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file}: row group {group}: cannot be read: {error}") from None
            yield group, table


def _prediction_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith((".", "_")))
        if not files:
            raise InputError(f"{path}: expected .parquet files with row_id and score, found none")
        return files
    if not path.exists():
        raise InputError(
            f"{path}: no such predictions (tools.predict makes a run's own): expected Parquet with row_id and score"
        )
    return [path]


def _columns(table: pa.Table, where: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    id_type, score_type = table.schema.field("row_id").type, table.schema.field("score").type
    if not pa.types.is_integer(id_type):
        raise InputError(f"{where}: column 'row_id': expected integers, found {id_type}")
    if not pa.types.is_floating(score_type):
        raise InputError(f"{where}: column 'score': expected floating point, found {score_type}")
    if table["row_id"].null_count:
        raise InputError(f"{where}: column 'row_id': expected no nulls, found {table['row_id'].null_count}")
    ids = table["row_id"].to_numpy().astype(np.int64)
    return ids, table["score"].to_numpy().astype(np.float64)


def _check_ids(ids: NDArray[np.int64], seen: NDArray[np.bool_], split: str, where: str) -> None:
    inside = (ids >= 0) & (ids < len(seen))
    if not inside.all():
        bad = int(ids[np.argmin(inside)])
        raise InputError(f"{where}: row_id {bad}: split {split!r} has row ids 0 to {len(seen) - 1}")
    ordered = np.sort(ids)
    again = np.concatenate((ids[seen[ids]], ordered[1:][ordered[1:] == ordered[:-1]]))
    if len(again):
        raise InputError(f"{where}: row_id {int(again[0])} has a score more than once; expected each row id once")


def _encode(column: pa.ChunkedArray) -> Any:
    """The chunk's ids as a DictionaryArray."""
    return column.combine_chunks().dictionary_encode()


def _unify(chunks: list[Any]) -> tuple[NDArray[np.int32], pa.Array]:
    """One dictionary for all chunks: codes [N] and the distinct ids."""
    unified: list[Any] = pa.chunked_array(chunks).unify_dictionaries().chunks
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified])
    return codes.astype(np.int32, copy=False), unified[0].dictionary
