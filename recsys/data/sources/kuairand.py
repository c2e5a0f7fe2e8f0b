"""KuaiRand-Pure: two weeks of short-video impressions with clicks, and what each user watched before them (CC BY-SA).

Read from a folder with impressions, users, videos and history_before_0425 as Parquet. The label is the click. The value
is equation 4 of PROMO with both weights 1: play time over duration, at most 2 (a second view), plus one for each of
like, follow, comment, forward. It is known after the impression only, so none of it is a feature; the context columns
are what is known before: tab, is_rand, duration (seconds).

User columns are Kuaishou's own coded or ranged snapshot, taken as strings; the exact counts behind the ranges
and all statistics of videos are left out: they may have been computed over the logged weeks themselves. An earlier
watch is liked (history label 1) where it was a long watch or got a like: of a watch the log keeps no click. Watches
are taken to have happened in the second of the user's last one, so an impression of that second or before sees none.

Every video was uploaded before the log begins and most were watched before it: arrival of new items is simulated here.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Source
from recsys.data.log import Log, Past, items_table
from recsys.data.sources.tabular import read_columns
from recsys.errors import InputError

REACTIONS = ("is_like", "is_follow", "is_comment", "is_forward")
LONGEST_PLAY = 2.0
IMPRESSIONS = (
    "user_id",
    "video_id",
    "time_ms",
    "is_click",
    *REACTIONS,
    "play_time_ms",
    "duration_ms",
    "is_rand",
    "tab",
)
VIDEOS = (
    "video_id",
    "author_id",
    "video_type",
    "upload_dt",
    "upload_type",
    "video_duration",
    "music_id",
    "music_type",
    "tag",
)
HISTORY = ("user_id", "last_time_ms", "watch_seq", "like_seq", "long_watch_seq")
COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
"""Exact numbers of users.parquet that are left out: their ranges stay."""

_CHINA_HOURS = 8


def load(source: Source) -> Log:
    """The log in the folder `source.path`.

    Raises:
        InputError: no path, a missing file or column, an impression of an unknown user or video, or one without a
            second or a click.
    """
    if not source.path:
        raise InputError(
            "data.source.path: expected the folder of KuaiRand-Pure, such as data.source.path=/data/kuairand"
        )
    folder = Path(source.path)
    seen = read_columns(folder / "impressions.parquet", IMPRESSIONS)
    users = read_columns(folder / "users.parquet", ("user_id",), everything=True)
    videos = read_columns(folder / "videos.parquet", VIDEOS)
    past = read_columns(folder / "history_before_0425.parquet", HISTORY)
    for name in ("time_ms", "is_click"):
        if seen[name].null_count:
            row = pc.index(pc.is_null(seen[name]), True)
            raise InputError(f"{folder}/impressions.parquet: column {name!r}: row {row} is null; expected a number")
    duration = _numbers(seen["duration_ms"])
    played = _numbers(seen["play_time_ms"]) / np.maximum(duration, 1.0)
    value = np.clip(played, 0.0, LONGEST_PLAY) + sum(_numbers(seen[name]) for name in REACTIONS)
    return Log(
        name="KuaiRand-Pure",
        source="KuaiRand-Pure, impressions from 25 April 2022 on, with each user's earlier watches",
        licence="CC BY-SA 4.0; see https://kuairand.com",
        users=_users(users),
        items=_videos(videos),
        user=_codes(seen["user_id"], users["user_id"], f"{folder}/impressions.parquet: user_id"),
        item=_codes(seen["video_id"], videos["video_id"], f"{folder}/impressions.parquet: video_id"),
        time=np.asarray(seen["time_ms"]) // 1000,
        value=value.astype(np.float32),
        label=np.asarray(seen["is_click"]).astype(np.int8),
        context=pa.table(
            {
                "tab": seen["tab"],
                "is_rand": seen["is_rand"],
                "duration": pa.array((duration / 1000).astype(np.float32)),
            }
        ),
        past=_past(past, users["user_id"], videos["video_id"], f"{folder}/history_before_0425.parquet"),
        notes=("arrival of new videos is simulated: all of them were uploaded before the log begins",),
    )


def _users(table: pa.Table) -> pa.Table:
    kept = [name for name in table.column_names if name not in ("user_id", *COUNTS)]
    return pa.table({"user_id": table["user_id"]} | {name: _text(table[name]) for name in kept})


def _videos(table: pa.Table) -> pa.Table:
    tags = pc.split_pattern(pc.cast(table["tag"], pa.string()), ",")
    uploaded = pc.strptime(pc.cast(table["upload_dt"], pa.string()), format="%Y-%m-%d", unit="s")
    first_seen = pc.subtract(pc.cast(uploaded, pa.int64()), _CHINA_HOURS * 3600)
    names = ("author_id", "video_type", "upload_type", "music_id", "music_type")
    features = {name: _text(table[name]) for name in names} | {"tags": tags}
    told = {"item_id": table["video_id"], "text": _words(table), "categories": tags, "first_seen": first_seen}
    return items_table(told, features)


def _words(table: pa.Table) -> pa.ChunkedArray:
    """What stands for a video's text, of which there is none: its codes and its length in words, where it has them."""
    seconds = pc.cast(pc.round(pc.divide(table["video_duration"], 1000)), pa.int64(), safe=False)
    parts = [
        pc.binary_join_element_wise(pa.scalar(name), pc.cast(column, pa.string()), " ")
        for name, column in (
            ("author", table["author_id"]),
            ("music", _text(table["music_id"])),
            ("type", table["video_type"]),
            ("upload", table["upload_type"]),
            ("seconds", seconds),
        )
    ]
    return pc.binary_join_element_wise(*parts, ", ", null_handling="skip")


def _past(table: pa.Table, users: pa.ChunkedArray, videos: pa.ChunkedArray, where: str) -> Past:
    owner = _codes(table["user_id"], users, f"{where}: user_id")
    lengths = {name: _lengths(table[name]) for name in ("watch_seq", "like_seq", "long_watch_seq")}
    codes = {name: _codes(pc.list_flatten(table[name]), videos, f"{where}: {name}") for name in lengths}
    keys = {name: np.repeat(owner.astype(np.int64), lengths[name]) * len(videos) + codes[name] for name in lengths}
    liked = np.isin(keys["watch_seq"], np.concatenate([keys["like_seq"], keys["long_watch_seq"]]))
    return Past(
        user=np.repeat(owner, lengths["watch_seq"]),
        item=codes["watch_seq"],
        time=np.repeat(np.asarray(table["last_time_ms"]) // 1000, lengths["watch_seq"]),
        liked=liked.astype(np.int8),
    )


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Codes as strings: 3, 3.0 and "3" are all "3"; null stays null."""
    if pa.types.is_floating(column.type):
        column = pc.cast(column, pa.int64())
    return pc.cast(column, pa.string())


def _codes(values: pa.ChunkedArray, ids: pa.ChunkedArray, where: str) -> npt.NDArray[np.int32]:
    place = pc.index_in(values, ids)
    if place.null_count:
        unknown = values.filter(pc.is_null(place))[0]
        raise InputError(
            f"{where}: {place.null_count} unknown ids, such as {unknown}; expected ids of users and videos"
        )
    return np.asarray(place).astype(np.int32)


def _lengths(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(pc.cast(column, pa.float64()))
