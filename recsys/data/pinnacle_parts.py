"""Lists made before training, row for row beside the interactions that they belong to.

    <run>/prompt/lists/n=<exposure>/split=<split>/part-*.parquet, about.json

A part file has the name, the rows and the row groups of its file in the split. Its columns: `pinnacle`, list of user
ids as in the dataset; `value`, list of float32, and `age`, list of int64 seconds, aligned to it; `negative`, list of
user ids, of which the first `explicit` (int32) are explicit; `borrowed`, bool. Where a list is short it is a short
list: nothing stands for nobody.

Held are the remembered feedback and one row group with its lists.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from recsys.config import Config
from recsys.config_prompt import Prompt
from recsys.data.check import Place
from recsys.data.feedback import Feedback
from recsys.data.feedback_rows import Entities, drawn_negatives, read, read_columns
from recsys.data.log import Codes, Mask
from recsys.data.pieces import Piece, row_groups
from recsys.data.pinnacle import Lists, lists
from recsys.data.schema import HELD_OUT, KEEPING, read_info, split_files
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.files import replacing

ABOUT = "about.json"


@dataclass(frozen=True, kw_only=True)
class About:
    """How the lists of a split were made."""

    dataset: str
    """Fingerprint."""
    split: str
    exposure: int
    """Kept rows of each new item that lists may show."""
    settings: dict[str, Any]
    """See `settings_of`."""
    lender: str
    """Digest of who lends to whom (`recsys.data.similar`); empty where nobody does."""
    seconds: float


def folder_of(config: Config, split: str, exposure: int) -> Path:
    """Where the lists of a split are."""
    return Path(config.run) / "prompt" / "lists" / f"n={exposure}" / f"split={split}"


def settings_of(options: Prompt) -> dict[str, Any]:
    """The keys of the config's `prompt` that lists depend on: all but those of what is made of lists."""
    return {key: value for key, value in asdict(options).items() if key != "name" and not isinstance(value, dict)}


def write(config: Config, split: str, exposure: int = 0, lender: Codes | None = None) -> Path:
    """Make the lists of every row of a split; returns their folder.

    Lists made alike stay, others are replaced, as are all those of a dataset without a fingerprint.
    Rows of new items in valid and test see all that was kept of their item; all others what is of an earlier second.

    lender: [I] in the order of items.parquet, the item whose list stands in for an empty one.

    Raises:
        InputError: as `recsys.data.feedback_rows.read`, a split without files, or a leak that
            `prompt.even_lengths=False` would make.
    """
    dataset, folder = Path(config.data.path), folder_of(config, split, exposure)
    started = time.perf_counter()
    about = About(
        dataset=read_info(dataset).fingerprint,
        split=split,
        exposure=exposure,
        settings=settings_of(config.prompt),
        lender="" if lender is None else hashlib.sha256(lender.tobytes()).hexdigest()[:16],
        seconds=0.0,
    )
    if about.dataset and _made_alike(folder, about):
        return folder
    files = split_files(dataset, split)
    if not files:
        raise InputError(f"{dataset}: split {split!r} has no files")
    entities = Entities.read(dataset)
    maker = _Maker(
        entities=entities,
        feedback=read(dataset, exposure, entities, config.prompt.seed),
        options=config.prompt,
        whole=_new(dataset, entities) if split in ("valid", "test") else np.zeros(len(entities.items.ids), bool),
        lender=lender,
        drawn=drawn_negatives(dataset),
    )
    with replacing(folder) as temporary:
        temporary.mkdir()
        for file in files:
            maker.write(file, temporary / file.name)
        about = replace(about, seconds=round(time.perf_counter() - started, 1))
        (temporary / ABOUT).write_text(json.dumps(asdict(about), indent=1) + "\n")
    return folder


def read_about(folder: Path) -> About:
    """How lists were made.

    Raises:
        InputError: not there, or not whole.
    """
    try:
        return About(**json.loads((folder / ABOUT).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / ABOUT}: expected lists of pinnacle feedback: {error}") from None


def _made_alike(folder: Path, about: About) -> bool:
    """Whether the folder holds lists that were made as `about` says."""
    try:
        return replace(read_about(folder), seconds=about.seconds) == about
    except InputError:
        return False


def _new(dataset: Path, entities: Entities) -> Mask:
    """[I] whether the split keeps feedback of new items and holds the item out."""
    new = np.zeros(len(entities.items.ids) + 1, bool)
    if read_info(dataset).split in KEEPING:
        for piece in row_groups([dataset / HELD_OUT]):
            new[entities.item(decoded(read_columns(piece, ["item_id"])["item_id"]))] = True
    return new[:-1]


@dataclass(frozen=True, kw_only=True)
class _Maker:
    entities: Entities
    feedback: Feedback
    options: Prompt
    whole: Mask
    """[I] items whose rows see all of their remembered events."""
    lender: Codes | None
    drawn: bool
    """Whether rows of label 0 are drawn."""

    def write(self, source: Path, target: Path) -> None:
        """The lists of one part file, in row groups of the same rows."""
        pieces = row_groups([source])
        with pq.ParquetWriter(target, self._schema(), compression="zstd") as writer:
            for piece in tqdm(pieces, desc=f"lists of {source.parent.name}", unit=" row groups", disable=None):
                if piece.rows:
                    writer.write_table(self._table(self._lists(piece)), row_group_size=piece.rows)

    def _lists(self, piece: Piece) -> Lists:
        table = read_columns(piece, ["user_id", "item_id", "timestamp"])
        place = Place(piece.path, piece.group)
        for name in table.column_names:
            if table[name].null_count:
                raise place.error(name, "is null; expected a value in every row", pc.is_null(table[name]))
        item = self.entities.item(table["item_id"])
        made = lists(
            self.feedback,
            self.options,
            item,
            table["timestamp"].to_numpy(),
            self.entities.user(table["user_id"]),
            np.append(self.whole, False)[item],
            self.lender,
        )
        if self.drawn and made.own.any() and not self.options.even_lengths:
            text = "leak: gave the item feedback before, as no drawn row's user did: set prompt.even_lengths=true"
            raise place.error("user_id", text, made.own)
        return made

    def _schema(self) -> pa.Schema:
        ids = pa.list_(self.entities.users.ids.type)
        kinds = {"pinnacle": ids, "value": pa.list_(pa.float32()), "age": pa.list_(pa.int64()), "negative": ids}
        return pa.schema(list((kinds | {"explicit": pa.int32(), "borrowed": pa.bool_()}).items()))

    def _table(self, made: Lists) -> pa.Table:
        users, schema = self.entities.users.ids, self._schema()
        pinnacle, negative = made.taken, made.negative >= 0
        columns = [
            _listed(users.take(pa.array(made.pinnacle[pinnacle])), pinnacle),
            _listed(pa.array(made.value[pinnacle]), pinnacle),
            _listed(pa.array(made.age[pinnacle]), pinnacle),
            _listed(users.take(pa.array(made.negative[negative])), negative),
            pa.array(made.explicit),
            pa.array(made.borrowed),
        ]
        return pa.table(columns, schema=schema)


def _listed(values: pa.Array, taken: Mask) -> pa.ListArray:
    """[B] lists of the taken places' values, which come row by row."""
    offsets = np.concatenate([[0], np.cumsum(taken.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
