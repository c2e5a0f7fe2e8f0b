"""A dataset's remembered feedback, read in a stream: split=train, and the kept rows of new items under `exposure`.

Under the label rule `observed`, rows of label 0 are drawn, nobody's feedback, and are left out. So are rows whose user
or item has no record in users.parquet or items.parquet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from recsys.data.check import Place
from recsys.data.feedback import Feedback, Raw, Values, build
from recsys.data.ids import IdMap
from recsys.data.log import Codes, Seconds
from recsys.data.parquet import opened
from recsys.data.pieces import Piece, row_groups
from recsys.data.schema import ITEMS, USERS, read_info, read_settings, split_files
from recsys.data.side import read_side
from recsys.errors import InputError

READ = ["user_id", "item_id", "timestamp", "label", "value"]


@dataclass(frozen=True)
class Entities:
    """Codes of users and items: rows of users.parquet and items.parquet, from 0; -1 is one without a record."""

    users: IdMap
    items: IdMap

    @staticmethod
    def read(dataset: Path) -> "Entities":
        """The ids of the dataset directory."""
        return Entities(_index(dataset / USERS, "user_id"), _index(dataset / ITEMS, "item_id"))

    def with_items(self, ids: pa.Array) -> "Entities":
        """The same with codes, behind all others, for those of the raw item ids that have no record.

        Raises:
            InputError: the ids' type is not the dataset's.
        """
        return replace(self, items=replace(self.items, capacity=self.items.capacity + len(ids)).admit(ids)[0])

    def user(self, ids: pa.Array | pa.ChunkedArray) -> Codes:
        """[n] codes of raw user ids."""
        return (self.users.rows(ids) - 1).astype(np.int32)

    def item(self, ids: pa.Array | pa.ChunkedArray) -> Codes:
        """[n] codes of raw item ids."""
        return (self.items.rows(ids) - 1).astype(np.int32)


def _index(path: Path, key: str) -> IdMap:
    ids = read_side(path, key, [])[key].combine_chunks()
    return IdMap(key, ids, np.zeros(len(ids), np.int64), len(ids) + 1)


def read(dataset: Path, exposure: int, entities: Entities, seed: int, more: Sequence[Path] = ()) -> Feedback:
    """The feedback that the rows of a dataset may see, with the `exposure` newest kept rows of each new item, and with
    the rows of the files `more`, Parquet with the columns of a split; what several of them tell is told once.

    Raises:
        InputError: an exposure that the dataset cannot give, a file that cannot be read, a null id, second or label, a
            second that is no integer, or a value that is not finite.
    """
    most = max(read_info(dataset).exposures, default=0)
    if not 0 <= exposure <= most:
        raise InputError(f"{dataset}: exposure {exposure}: expected 0 to {most}, the rows kept of each new item")
    drawn = drawn_negatives(dataset)
    sources = {split: split_files(dataset, split) for split in ("train", "feedback")[: 2 if exposure else 1]}
    sources |= {"more": list(more)} if more else {}
    parts = [
        _raw(table, place, entities, split, exposure, drawn)
        for split, files in sources.items()
        for place, table in _groups(files, split)
    ]
    if not parts:
        raise InputError(f"{dataset}: split 'train' has no rows")
    raw = Raw(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Raw)})
    return build(raw, len(entities.users.ids), len(entities.items.ids), seed)


def drawn_negatives(dataset: Path) -> bool:
    """Whether the dataset's rows of label 0 are drawn, and nobody's feedback."""
    return read_settings(dataset).get("label.rule") == "observed"


def _groups(files: list[Path], split: str) -> Iterator[tuple[Place, pa.Table]]:
    columns = [*READ, "rank"] if split == "feedback" else READ
    for piece in tqdm(row_groups(files), desc=f"feedback of {split}", unit=" row groups", disable=None):
        yield Place(piece.path, piece.group), read_columns(piece, columns)


def read_columns(piece: Piece, columns: list[str]) -> pa.Table:
    """The columns of a whole row group.

    Raises:
        InputError: a missing column, or a row group that cannot be read.
    """
    try:
        with opened(piece.path) as file:
            names = file.schema_arrow.names
            for name in columns:
                if name not in names:
                    raise InputError(f"{piece.path}: no column {name!r}; it has {', '.join(names)}")
            return file.read_row_group(piece.group, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{piece.path}: row group {piece.group}: cannot be read: {error}") from None


def _raw(table: pa.Table, place: Place, entities: Entities, split: str, exposure: int, drawn: bool) -> Raw:
    for name in READ[:-1]:
        if table[name].null_count:
            raise place.error(name, "is null; expected a value in every row", pc.is_null(table[name]))
    value = _values(table["value"], place)
    user, item = entities.user(table["user_id"]), entities.item(table["item_id"])
    label = table["label"].to_numpy().astype(np.int8)
    if ((label != 0) & (label != 1)).any():
        raise place.error("label", "expected 0 or 1", (label != 0) & (label != 1))
    kept = (user >= 0) & (item >= 0) & ((label == 1) | (not drawn))
    if split == "feedback":
        kept &= table["rank"].to_numpy() <= exposure
    return Raw(
        user=user[kept],
        item=item[kept],
        time=seconds(table["timestamp"], place)[kept],
        label=label[kept],
        value=value[kept],
        trained=np.full(int(kept.sum()), split == "train"),
    )


def seconds(column: pa.ChunkedArray, place: Place) -> Seconds:
    """[n] of a column timestamp without nulls.

    Raises:
        InputError: the column is not of integers; a timestamp of Arrow's may count microseconds.
    """
    if not pa.types.is_integer(column.type):
        raise place.error("timestamp", f"expected seconds as integers, found {column.type}")
    return column.to_numpy().astype(np.int64)


def _values(column: pa.ChunkedArray, place: Place) -> Values:
    """[n] float32, NaN for null."""
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise place.error("value", f"expected numbers or nulls, found {column.type}")
    column = pc.cast(column, pa.float32(), safe=False)
    bad = pc.fill_null(pc.invert(pc.is_finite(column)), False)
    if pc.any(bad).as_py():
        raise place.error("value", f"expected a finite number or null, found {column.filter(bad)[0]}", bad)
    return pc.fill_null(column, float("nan")).to_numpy()
