"""Lists joined to batches by row id: what `recsys.data.pinnacle_parts` wrote, or somebody else to its form.

joined = Joined(config, "train")
joined.of(batch.row_id.numpy())    # Lists of the batch's rows
"""

from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.typing import DTypeLike
from tqdm import tqdm

from recsys.config import Config
from recsys.data.check import Place, same_ids
from recsys.data.feedback_rows import Entities, read_columns
from recsys.data.log import Codes, Mask
from recsys.data.pieces import Piece, row_groups
from recsys.data.pinnacle import Lists
from recsys.data.pinnacle_parts import ABOUT, folder_of, read_about, settings_of
from recsys.data.places import NOBODY
from recsys.data.schema import is_list, read_info, split_files
from recsys.data.side import decoded
from recsys.data.side import lists as flat
from recsys.errors import InputError

COLUMNS = ["pinnacle", "value", "age", "negative", "explicit", "borrowed"]


class Joined:
    """The lists of a split, read by row group as batches ask for them.

    At most `held` rows and one row group are in memory, at 20 k bytes a row. For shuffled batches that is twice the
    shuffle buffer: with less, a row group is read again and again.

    Args:
        exposure: kept rows of each new item that the lists may show.

    Raises:
        InputError: no lists there; lists of another dataset, made with other settings than the config's, or with other
            files, rows or row groups than the split; and, each with file, row group and row, a list that is longer than
            k, of another length than its values, or names an unknown user, a value that is not finite, an age below 0.
            All of it is read once before anything is made from it.
    """

    def __init__(self, config: Config, split: str, exposure: int = 0, held: int = 0) -> None:
        dataset = Path(config.data.path)
        self.folder, self.k = folder_of(config, split, exposure), config.prompt.k
        self.held = held or 2 * config.train.shuffle_rows
        _require_same(self.folder, config)
        self.pieces = row_groups(sorted(self.folder.glob("part-*.parquet")))
        _require_rows(self.folder, self.pieces, row_groups(split_files(dataset, split)))
        self.entities = Entities.read(dataset)
        self._ends = np.cumsum([piece.rows for piece in self.pieces])
        self._read: dict[int, Lists] = {}
        for piece in tqdm(self.pieces, desc=f"checking lists of {split}", unit=" row groups", disable=None):
            self._lists(piece)

    def of(self, row_id: npt.NDArray[np.int64]) -> Lists:
        """The lists of rows [B]; -1, a batch's padding, has empty ones."""
        group = np.where(row_id < 0, NOBODY, np.searchsorted(self._ends, row_id, side="right"))
        order = np.argsort(group, kind="stable")
        padding = int(np.count_nonzero(group < 0))
        parts = [nothing(padding, self.k)]
        numbers, counts = np.unique(group[order[padding:]], return_counts=True)
        for number, stop, count in zip(numbers.tolist(), padding + np.cumsum(counts), counts, strict=True):
            parts.append(self._group(number)[row_id[order[stop - count : stop]] - self.pieces[number].first_row])
        return Lists.concat(parts)[np.argsort(order)]

    def _group(self, number: int) -> Lists:
        if number not in self._read:
            self._read[number] = self._lists(self.pieces[number])
            while len(self._read) > 1 and sum(len(one.explicit) for one in self._read.values()) > self.held:
                del self._read[next(iter(self._read))]
        return self._read[number]

    def _lists(self, piece: Piece) -> Lists:
        table, place = read_columns(piece, COLUMNS), Place(piece.path, piece.group)
        pinnacle, taken = self._users(table, "pinnacle", place)
        negative, drawn = self._users(table, "negative", place)
        explicit, borrowed = table["explicit"], table["borrowed"]
        if not pa.types.is_integer(explicit.type) or explicit.null_count:
            raise place.error("explicit", f"expected integers without null, found {explicit.type}")
        if not pa.types.is_boolean(borrowed.type) or borrowed.null_count:
            raise place.error("borrowed", f"expected bool without null, found {borrowed.type}")
        told = explicit.to_numpy().astype(np.int32)
        bad = (told < 0) | (told > drawn.sum(axis=1))
        if bad.any():
            raise place.error("explicit", f"expected 0 to the length of 'negative', found {told[np.argmax(bad)]}", bad)
        return Lists(
            pinnacle=pinnacle,
            value=_numbers(table, "value", place, taken, pa.types.is_floating, np.float32),
            age=_numbers(table, "age", place, taken, pa.types.is_integer, np.int64),
            negative=negative,
            explicit=told,
            borrowed=borrowed.to_numpy(),
            own=np.zeros(len(told), bool),
        )

    def _users(self, table: pa.Table, name: str, place: Place) -> tuple[Codes, Mask]:
        """[B, k] codes of a column of users, and which places are taken."""
        ids, taken = _flat(table, name, place, self.k)
        expected = self.entities.users.ids.type
        if not same_ids(ids.type, expected):
            raise place.error(name, f"expected lists of {expected}, found {table[name].type}")
        codes = np.full(taken.shape, NOBODY, np.int32)
        codes[taken] = self.entities.user(ids)
        unknown = taken & (codes < 0)
        if unknown.any():
            user = ids[int(np.argmax(codes[taken] < 0))].as_py()
            raise place.error(name, f"user {user!r}: expected a user of users.parquet", unknown.any(axis=1))
        return codes, taken


def nothing(rows: int, k: int) -> Lists:
    """Empty lists."""
    nobody, none = np.full((rows, k), NOBODY, np.int32), np.zeros(rows, bool)
    value, age = np.zeros((rows, k), np.float32), np.zeros((rows, k), np.int64)
    explicit = np.zeros(rows, np.int32)
    return Lists(pinnacle=nobody, value=value, age=age, negative=nobody, explicit=explicit, borrowed=none, own=none)


def _require_same(folder: Path, config: Config) -> None:
    about = read_about(folder)
    if about.dataset != read_info(config.data.path).fingerprint:
        raise InputError(f"{folder / ABOUT}: these lists were made on another dataset: make them anew")
    for key, value in settings_of(config.prompt).items():
        if about.settings.get(key) != value:
            raise InputError(
                f"{folder / ABOUT}: made with prompt.{key}={about.settings.get(key)!r}, the config says {value!r}: "
                "make the lists anew, or change the config"
            )


def _require_rows(folder: Path, found: list[Piece], expected: list[Piece]) -> None:
    """The lists' row groups are those of the split."""
    for made, asked in zip_longest(found, expected):
        if made is None or asked is None or (made.path.name, made.rows) != (asked.path.name, asked.rows):
            here, there = (_described(piece) for piece in (made, asked))
            raise InputError(f"{folder}: expected {there}, as in the split, found {here}: make the lists anew")


def _described(piece: Piece | None) -> str:
    return f"{piece.rows} rows in row group {piece.group} of {piece.path.name}" if piece else "no further row group"


def _flat(table: pa.Table, name: str, place: Place, k: int) -> tuple[pa.Array, Mask]:
    """The values of a column of lists, row by row, and [B, k] which places they take."""
    column = table[name]
    if not is_list(column.type):
        raise place.error(name, f"expected lists, found {column.type}")
    values, offsets = flat(column)
    lengths = np.diff(offsets)
    if (lengths > k).any():
        raise place.error(name, f"expected at most prompt.k={k} entries, found {lengths.max()}", lengths > k)
    taken = np.arange(k) < lengths[:, None]
    values = decoded(values)
    if values.null_count:
        raise place.error(name, "has a null inside; expected a value in every entry", _rows(taken, values.is_null()))
    return values, taken


def _numbers(
    table: pa.Table, name: str, place: Place, taken: Mask, kind: Callable[[pa.DataType], bool], dtype: DTypeLike
) -> npt.NDArray:
    """[B, k] of a column aligned to `pinnacle`, whose places are `taken`; 0 elsewhere."""
    values, own = _flat(table, name, place, taken.shape[1])
    if not kind(values.type):
        raise place.error(name, f"expected lists of {np.dtype(dtype).name}, found {table[name].type}")
    if (own != taken).any():
        raise place.error(name, "expected as many entries as 'pinnacle' has", (own != taken).any(axis=1))
    found = np.asarray(values).astype(dtype)
    bad = ~np.isfinite(found) if np.issubdtype(dtype, np.floating) else found < 0
    if bad.any():
        expected = "finite values" if np.issubdtype(dtype, np.floating) else "seconds of 0 or more"
        raise place.error(name, f"expected {expected}, found {found[np.argmax(bad)]}", _rows(taken, bad))
    numbers = np.zeros(taken.shape, dtype)
    numbers[taken] = found
    return numbers


def _rows(taken: Mask, entries: Mask | pa.Array) -> Mask:
    """[B] which rows have one of the marked entries, of all that are taken."""
    marked = np.zeros(taken.shape, bool)
    marked[taken] = np.asarray(entries)
    return np.asarray(marked.any(axis=1))
