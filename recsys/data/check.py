"""Refuse a bad dataset directory before training starts: one clear error with file, row group and column.

`check` streams row group by row group over the columns that training reads, so a damaged page is found too. It holds
one row group at a time, besides the ids of users and items.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat
from tqdm import tqdm

from recsys import storage
from recsys.config import Config, Feature
from recsys.data import kept, labels, parquet, schema, splits
from recsys.data.schema import Info, is_list, is_text
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.storage import Location

KEYS = {"user": "user_id", "item": "item_id"}
CHECKED_BY = 1
"""Raised whenever more is refused than before."""


@dataclass(frozen=True)
class Place:
    """A row group of a file, for errors."""

    path: Location
    group: int

    def error(self, column: str, text: str, at: pa.ChunkedArray | np.ndarray | None = None) -> InputError:
        """The error of a column here; `at` is a mask of the row group's rows, the first of which is named."""
        row = "" if at is None else f": row {int(np.argmax(np.asarray(at)))}"
        return InputError(f"{self.path}: row group {self.group}: column {column!r}{row}: {text}")


@dataclass(frozen=True)
class Held:
    """The items that the rule holds out, the splits they may not be in, and those that may not be in a history."""

    items: pa.Array
    splits: tuple[str, ...]
    history: pa.Array


def check(config: Config) -> Info:
    """The manifest of `config.data.path`, once everything that training will read has been found sound.

    Files that were found so are not read again for the same features (see `recsys.data.kept`).

    Raises:
        InputError: a missing or mistyped column, a null or duplicate id, a label that is not 0 or 1, a dense value that
            is not finite, a weight that is no number from 0 on, a history that is longer than declared or has other
            lengths than its labels, an empty split, a train or valid split with labels of one class, rows or items
            where the split rule promises none (leaks), a damaged file, a directory that was prepared with other
            settings than the config's.
    """
    path = storage.at(config.data.path)
    info = schema.read_info(path)
    _same_settings(config, info, path)
    sound = _kept(config, info)
    if sound.exists():
        return info
    kinds = {
        owner: _check_entities(path / name, owner, config.features)
        for owner, name in (("user", schema.USERS), ("item", schema.ITEMS))
    }
    held = _held(path, info, kinds["item"])
    ranges = {}
    for split in schema.SPLITS:
        files = schema.split_files(path, split)
        if not files and split != "feedback":
            raise InputError(
                f"{path}/interactions/split={split}: no part-*.parquet file there; expected rows of {split}"
            )
        if files:
            ranges[split] = _check_split(files, split, config, info, kinds, held)
    _check_order(info, ranges)
    kept.keep(sound, lambda partial: partial.write_text(""))
    return info


def _kept(config: Config, info: Info) -> Path:
    """What is there once the dataset has been found sound."""
    path = storage.at(config.data.path)
    files = [path / name for name in (schema.USERS, schema.ITEMS, schema.HELD_OUT) if (path / name).exists()]
    files += [file for split in schema.SPLITS for file in schema.split_files(path, split)]
    read = [[feature.name, feature.of, feature.kind] for feature in config.features]
    return kept.place(config, "sound", [CHECKED_BY, asdict(info), read, config.train.weight], files)


def _same_settings(config: Config, info: Info, path: Location) -> None:
    """A directory that tools.prepare made must have been made with this config's settings."""
    data = config.data
    found: dict[str, tuple[object, object]] = {"data.history": (info.history, data.history)}
    if info.fingerprint:
        found["data.split.rule"] = (info.split, data.split.rule)
        found["data.split.cut"] = (info.cut, data.split.cut if data.split.rule == "exposure" else None)
        found["data.split.seed"] = (info.seed, data.split.seed)
        found["data.label"] = (info.label, labels.describe(data.label))
        found["data.split.exposures"] = (info.exposures, splits.exposures(data.split))
        # Absent from directories made before there was such a file: those are told apart by the manifest alone.
        settings = schema.read_settings(path)
        for part, wanted, reads in (("label", data.label, labels.READS), ("split", data.split, splits.READS)):
            for name in reads[wanted.rule] if settings else ():
                found[f"data.{part}.{name}"] = (settings.get(f"{part}.{name}"), getattr(wanted, name))
    for key, (made, asked) in found.items():
        if made != asked:
            raise InputError(
                f"{path / schema.MANIFEST}: {key}: the dataset was made with {made!r}, the config says {asked!r}; "
                "run python -m tools.prepare with this config, or change the config"
            )


def _open(path: Location, leaf: list[str] | None = None) -> pq.ParquetFile:
    try:
        return parquet.opened(path, leaf)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: truncated or not Parquet: {error}") from None


def _groups(file: pq.ParquetFile, path: Location, columns: list[str]) -> Iterator[tuple[Place, pa.Table]]:
    for group in range(file.num_row_groups):
        try:
            yield Place(path, group), file.read_row_group(group, columns=columns)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: row group {group}: damaged: {error}") from None


def _check_entities(path: Location, owner: str, features: list[Feature]) -> pa.DataType:
    """users.parquet or items.parquet; returns the type of its ids."""
    key = KEYS[owner]
    wanted = [feature for feature in features if feature.of == owner and feature.name not in KEYS.values()]
    with _open(path) as file:
        kinds = file.schema_arrow
        _id_type(path, kinds, key)
        if owner == "item":
            _need(path, kinds, "title", is_text, "string")
            check_texts(path, kinds)
        for feature in wanted:
            _feature_type(path, kinds, feature)
        ids = []
        for place, table in _groups(file, path, [key, *dict.fromkeys(feature.name for feature in wanted)]):
            _no_nulls(place, table[key], key)
            _finite(place, table, wanted)
            ids += decoded(table[key]).chunks
        if not any(map(len, ids)):
            raise InputError(f"{path}: no rows")
        counts = pc.value_counts(pa.chunked_array(ids))
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise InputError(
                f"{path}: column {key!r}: {twice[0]['values']} occurs {twice[0]['counts']} times; expected once"
            )
        return kinds.field(key).type


def check_texts(path: Location, found: pa.Schema) -> None:
    """Types of what an encoder reads of items, where it is there.

    Raises:
        InputError: `text` is not a string, or `categories` not a list of strings.
    """
    if "text" in found.names:
        _need(path, found, "text", is_text, "string")
    if "categories" in found.names:
        _need(path, found, "categories", lambda kind: is_list(kind) and is_text(kind.value_type), "list<string>")


def _held(path: Location, info: Info, kind: pa.DataType) -> Held:
    file = path / schema.HELD_OUT
    with _open(file) as opened:
        for name in ("item_id", "group", "scored"):
            _need(file, opened.schema_arrow, name, lambda kind: True, "")
        _need(file, opened.schema_arrow, "item_id", lambda found: same_ids(found, kind), f"{kind} as in {schema.ITEMS}")
        table = opened.read(columns=["item_id"])
    ids = decoded(table["item_id"]).combine_chunks()
    empty = ids.slice(0, 0)
    held = ("train",) if info.split == "cold-items" else ("train", "valid")
    return Held(ids, held, ids if info.split in ("exposure", "warm-up", "cold-items") else empty)


def _check_split(
    files: list[Location], split: str, config: Config, info: Info, kinds: dict[str, pa.DataType], held: Held
) -> tuple[tuple[int, Place], tuple[int, Place]]:
    """Every row group of a split; returns its oldest and newest second with their places."""
    context = [feature for feature in config.features if feature.of == "context" and feature.name not in KEYS.values()]
    columns = ["user_id", "item_id", "timestamp", "label", "history", "history_label"]
    columns += dict.fromkeys(feature.name for feature in context)
    weight = config.train.weight if split == "train" else None
    columns += [weight] if weight and weight not in columns else []
    spans: list[tuple[int, int, Place]] = []
    rows = positives = 0
    for path in tqdm(files, desc=f"checking {split}", unit=" files", disable=not sys.stderr.isatty()):
        with _open(path, [schema.HISTORY_LEAF]) as file:
            _columns(path, file.schema_arrow, kinds, context)
            if weight:
                _need(path, file.schema_arrow, weight, _is_number, "numbers (train.weight)")
            for place, table in _groups(file, path, columns):
                if not table.num_rows:
                    continue
                rows += table.num_rows
                _check_rows(place, table, info)
                positives += pc.sum(table["label"]).as_py()
                _finite(place, table, context)
                if weight:
                    _check_weights(place, table, weight)
                _check_leaks(place, table, split, held)
                seconds = table["timestamp"].to_numpy()
                spans.append((int(seconds.min()), int(seconds.max()), place))
    folder = files[0].parent
    if not rows:
        raise InputError(f"{folder}: empty: no rows in {len(files)} files")
    if rows != info.counts.get(split, rows):
        raise InputError(
            f"{folder}: expected {info.counts[split]} rows by {schema.MANIFEST}, found {rows}: a file is missing?"
        )
    if split in ("train", "valid") and positives in (0, rows):
        raise InputError(
            f"{folder}: column 'label': expected both 0 and 1, found {min(positives, 1)} in all {rows} rows: no AUC"
            + ("; leave-one-out needs data.label.rule=observed" if info.split == "leave-one-out" else "")
        )
    oldest, newest = min(spans, key=lambda span: span[0]), max(spans, key=lambda span: span[1])
    return (oldest[0], oldest[2]), (newest[1], newest[2])


def _columns(path: Location, found: pa.Schema, kinds: dict[str, pa.DataType], context: list[Feature]) -> None:
    for owner, key in KEYS.items():
        _id_type(path, found, key)
        if not same_ids(found.field(key).type, kinds[owner]):
            raise InputError(
                f"{path}: column {key!r}: expected {kinds[owner]} as in {owner}s.parquet, found {found.field(key).type}"
            )
    _need(path, found, "timestamp", pat.is_int64, "int64 seconds")
    _need(path, found, "label", pat.is_integer, "int8")
    item = kinds["item"]
    _need(path, found, "history", lambda kind: is_list(kind) and same_ids(kind.value_type, item), f"list<{item}>")
    _need(path, found, "history_label", lambda kind: is_list(kind) and pat.is_integer(kind.value_type), "list<int8>")
    for feature in context:
        _feature_type(path, found, feature)


def _check_rows(place: Place, table: pa.Table, info: Info) -> None:
    for name in ("user_id", "item_id", "timestamp", "label"):
        _no_nulls(place, table[name], name)
    label = table["label"].to_numpy()
    bad = (label != 0) & (label != 1)
    if bad.any():
        raise place.error("label", f"expected 0 or 1, found {label[np.argmax(bad)]}", bad)
    lengths = _lengths(table["history"])
    if (lengths > info.history).any():
        long = lengths > info.history
        text = f"expected at most {info.history} items ({schema.MANIFEST}: history), found {lengths.max()}"
        raise place.error("history", text, long)
    other = _lengths(table["history_label"])
    if (lengths != other).any():
        apart = lengths != other
        at = int(np.argmax(apart))
        raise place.error(
            "history_label", f"expected {lengths[at]} values, one for each of history, found {other[at]}", apart
        )
    for name in ("history", "history_label"):
        inside = pc.list_flatten(table[name])
        if inside.null_count:
            raise place.error(name, "has a null inside; expected an id and a label for every event")
    liked = pc.list_flatten(table["history_label"]).to_numpy()
    strange = (liked != 0) & (liked != 1)
    if strange.any():
        owner = np.isin(np.arange(len(lengths)), np.repeat(np.arange(len(lengths)), lengths)[strange])
        raise place.error("history_label", f"expected 0 or 1, found {liked[np.argmax(strange)]}", owner)


def _check_weights(place: Place, table: pa.Table, name: str) -> None:
    _no_nulls(place, table[name], name)
    found = table[name].to_numpy()
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        raise place.error(name, f"expected a weight from 0 on (train.weight), found {found[np.argmax(bad)]}", bad)


def _check_leaks(place: Place, table: pa.Table, split: str, held: Held) -> None:
    """No held-out item in training rows, and none in any history where the rule masks them."""
    if split in held.splits:
        inside = pc.is_in(table["item_id"], value_set=held.items)
        if pc.any(inside).as_py():
            name = table["item_id"].filter(inside)[0]
            raise place.error("item_id", f"leak: {name} is held out ({schema.HELD_OUT}) and yet in {split}", inside)
    if len(held.history):
        for chunk in pc.list_flatten(table["history"]).chunks:
            names = chunk.dictionary if pat.is_dictionary(chunk.type) else chunk
            inside = pc.is_in(names, value_set=held.history)
            if pc.any(inside).as_py():
                name = names.filter(inside)[0]
                raise place.error("history", f"leak: {name} is held out ({schema.HELD_OUT}) and yet in a history")


def _check_order(info: Info, ranges: dict[str, tuple[tuple[int, Place], tuple[int, Place]]]) -> None:
    if info.rule not in schema.PROMISE_ORDER:
        return
    pairs = [("train", "valid"), ("valid", "test"), ("train", "test"), ("feedback", "test")]
    for older, newer in pairs:
        if older in ranges and newer in ranges:
            (first, newer_place), (last, older_place) = ranges[newer][0], ranges[older][1]
            if last >= first:
                raise older_place.error(
                    "timestamp",
                    f"leak: {info.rule} promises that {older} is older than {newer}, but {last} here is not before "
                    f"{first} in {newer_place.path}: row group {newer_place.group}",
                )


def _need(path: Location, found: pa.Schema, name: str, fits: Callable[[Any], bool], expected: str) -> None:
    if name not in found.names:
        raise InputError(f"{path}: no column {name!r}; it has {', '.join(found.names)}")
    kind = found.field(name).type
    if not fits(kind):
        raise InputError(f"{path}: column {name!r}: expected {expected}, found {kind}")


def _id_type(path: Location, found: pa.Schema, name: str) -> None:
    _need(path, found, name, lambda kind: is_text(kind) or pat.is_int64(kind), "string or int64")


def same_ids(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two columns' ids can be compared: both are strings, or both int64."""
    return is_text(one) if is_text(other) else pat.is_int64(one)


def _feature_type(path: Location, found: pa.Schema, feature: Feature) -> None:
    if feature.kind == "dense":
        _need(path, found, feature.name, _is_number, "numbers (dense feature)")
    elif feature.kind == "multi":
        _need(
            path,
            found,
            feature.name,
            lambda kind: is_list(kind) and _is_code(kind.value_type),
            "list of string or integer",
        )
    else:
        _need(path, found, feature.name, _is_code, "string or integer (category)")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pat.is_floating(kind) or pat.is_integer(kind))


def _is_code(kind: pa.DataType) -> bool:
    return is_text(kind) or bool(pat.is_integer(kind))


def _no_nulls(place: Place, column: pa.ChunkedArray, name: str) -> None:
    if column.null_count:
        raise place.error(name, "is null; expected a value in every row", pc.is_null(column))


def _finite(place: Place, table: pa.Table, features: list[Feature]) -> None:
    for feature in features:
        if feature.kind == "dense" and pat.is_floating(table[feature.name].type):
            bad = pc.fill_null(pc.invert(pc.is_finite(table[feature.name])), False)
            if pc.any(bad).as_py():
                found = table[feature.name].filter(bad)[0]
                raise place.error(feature.name, f"expected a finite number or null (dense feature), found {found}", bad)


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0))
