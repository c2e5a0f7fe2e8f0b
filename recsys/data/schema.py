"""The dataset directory: its file names, its columns, and the manifest `dataset.yaml` as a frozen dataclass.

    dataset.yaml                                  Info, written last
    settings.yaml                                 the label and split settings it was prepared with, if it was
    users.parquet, items.parquet, held_out.parquet
    interactions/split=train|valid|test|feedback/part-*.parquet

A row's id (`row_id`) is its position in the split: part files sorted by name, rows in order.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.types as pat
import yaml
from pydantic import TypeAdapter, ValidationError

from recsys.config import Data
from recsys.errors import InputError
from recsys.storage import Location, at, write_text

SCHEMA_VERSION = 1
MANIFEST = "dataset.yaml"
SETTINGS = "settings.yaml"
USERS = "users.parquet"
ITEMS = "items.parquet"
HELD_OUT = "held_out.parquet"
SPLITS = ("train", "valid", "test", "feedback")
"""Every split that may exist; `feedback` only under the rules of KEEPING."""
KEEPING = ("exposure", "warm-up")
"""Rules that keep rows of new items back as feedback."""

COLUMNS = (
    "user_id",
    "item_id",
    "timestamp",
    "label",
    "value",
    "history",
    "history_label",
    "history_count",
    "history_liked",
)
"""Columns of every split: ids (string or int64), int64 seconds, int8 0/1, float32 or null, list of item ids (newest
last), list of int8 aligned to it. Context columns follow; in feedback also `rank` int32, from 1: an item's rows
in the order in which they count, newest first (`exposure`) or oldest first (`warm-up`)."""

RESERVED = (*COLUMNS, "rank", "row_id")
"""Names that no context column may take."""

HISTORY_LEAF = "history.list.element"
"""Parquet path of the history's ids, for `pyarrow.parquet.ParquetFile(..., read_dictionary=[HISTORY_LEAF])`."""

SCORES = pa.schema([("row_id", pa.int64()), ("score", pa.float32())])
"""Columns of a predictions file. Scores are probabilities."""

PROMISE_ORDER = ("temporal", "exposure/time")
"""Rules (with their cut) under which every row of train is older than every row of valid, and valid than test."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """What `dataset.yaml` says. `time_range` and `counts` are by split; seconds since 1970, both ends included."""

    schema_version: int
    name: str
    source: str
    licence: str
    label: str
    split: str
    cut: str | None
    seed: int
    history: int
    """The declared longest history."""
    history_labels: bool
    counts: dict[str, int]
    """Rows by split."""
    time_range: dict[str, list[int]]
    users: int
    items: int
    exposures: list[int] = field(default_factory=list)
    """Rules of KEEPING: the numbers of feedback rows at which scored new items are evaluated; otherwise empty."""
    context: list[str] = field(default_factory=list)
    """Context columns of the interactions, beyond the contract's own."""
    notes: list[str] = field(default_factory=list)
    """What preparing dropped, merged or could not match."""
    timestamps: str = "seconds"
    fingerprint: str = ""
    """Of the data config and the source; equal means that preparing again would change nothing."""

    @property
    def rule(self) -> str:
        """The split rule with its cut, such as `exposure/user`."""
        return f"{self.split}/{self.cut}" if self.cut else self.split


def read_info(path: str | Location) -> Info:
    """The manifest of the dataset directory `path`.

    Raises:
        InputError: no manifest, not YAML, a missing or unknown key, or another schema version.
    """
    manifest = at(path) / MANIFEST
    try:
        tree = yaml.safe_load(manifest.read_text())
    except FileNotFoundError:
        raise InputError(f"{manifest}: no such file; make the dataset with python -m tools.prepare CONFIG") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{manifest}: expected a mapping of keys, found {type(tree).__name__}")
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{manifest}: schema_version: expected {SCHEMA_VERSION}, found {tree.get('schema_version')!r}; "
            "prepare the dataset again"
        )
    unknown = sorted(set(tree) - {item.name for item in fields(Info)})
    if unknown:
        raise InputError(f"{manifest}: unknown key {unknown[0]!r}")
    try:
        return TypeAdapter(Info).validate_python(tree)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{manifest}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def write_info(info: Info, path: Location) -> None:
    """Write the manifest into the directory `path`, all of it or nothing."""
    write_text(path / MANIFEST, yaml.safe_dump(asdict(info), sort_keys=False, allow_unicode=True))


def write_settings(data: Data, path: Location) -> None:
    """Write the label and split settings that the dataset in the directory `path` is made with."""
    write_text(path / SETTINGS, yaml.safe_dump({"label": asdict(data.label), "split": asdict(data.split)}))


def read_settings(path: Location) -> dict[str, object]:
    """`write_settings`' values by dotted key, such as `split.seed`; empty for a directory without them.

    Raises:
        InputError: the file is there but not what `write_settings` writes.
    """
    file = path / SETTINGS
    try:
        tree = yaml.safe_load(file.read_text())
        return {f"{part}.{key}": value for part, values in tree.items() for key, value in values.items()}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise InputError(f"{file}: not the settings of a prepared dataset: {error}") from None


@overload
def split_files(path: Path, split: str) -> list[Path]: ...


@overload
def split_files(path: str | Location, split: str) -> list[Location]: ...


def split_files(path: str | Location, split: str) -> list[Path] | list[Location]:
    """The part files of a split in the order that numbers its rows; empty where the split does not exist."""
    folder = at(path) / "interactions" / f"split={split}"
    if isinstance(folder, Path):
        return sorted(folder.glob("part-*.parquet"))
    found: list[Location] = [*folder.glob("part-*.parquet")]
    return found


def is_text(kind: Any) -> bool:
    """Whether the Arrow type is a string, dictionary-encoded or not."""
    if pat.is_dictionary(kind):
        kind = kind.value_type
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind))


def is_list(kind: Any) -> bool:
    """Whether the Arrow type is a list of variable length."""
    return bool(pat.is_list(kind) or pat.is_large_list(kind))
