from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Source
from recsys.data.sources import kuairand
from recsys.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zeros = [0, 0, 0]
    tables: dict[str, dict[str, list]] = {
        "impressions": {
            "user_id": [7, 7, 5],
            "video_id": [100, 101, 100],
            "time_ms": [1_650_812_741_999, 1_650_812_742_000, 1_650_812_743_500],
            "is_click": [1, 0, 1],
            "is_like": [1, 0, 0],
            "is_follow": [0, 0, 1],
            "is_comment": zeros,
            "is_forward": [1, 0, 0],
            "is_hate": zeros,
            "long_view": zeros,
            "play_time_ms": [5000, 100, 90_000],
            "duration_ms": [10_000, 0, 10_000],
            "is_rand": zeros,
            "tab": [1, 0, 1],
        },
        "users": {
            "user_id": [5, 7],
            "user_active_degree": ["full_active", "UNKNOWN"],
            "follow_user_num": [3, 4],
            "follow_user_num_range": ["(0,10]", "(0,10]"],
            "register_days": [9, 9],
            "onehot_feat0": [1, 0],
            "onehot_feat4": [2.0, None],
        },
        "videos": {
            "video_id": [100, 101],
            "author_id": [1, 2],
            "video_type": ["NORMAL", "AD"],
            "upload_dt": ["2022-04-10", "2022-04-09"],
            "upload_type": ["Kmovie", "Kmovie"],
            "video_duration": [87_433.0, None],
            "server_width": [720.0, 720.0],
            "music_id": [3, 4],
            "music_type": [9.0, None],
            "tag": ["39", "62,7"],
        },
        "history_before_0425": {
            "user_id": [7],
            "history_len": [3],
            "last_time_ms": [1_650_000_000_999],
            "watch_seq": [[101, 100, 101]],
            "like_seq": [[100]],
            "long_watch_seq": [[]],
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    return tmp_path


def test_reads_clicks_values_and_context(folder: Path) -> None:
    log = kuairand.load(Source(kind="kuairand-pure", path=str(folder)))
    assert log.label is not None and log.label.tolist() == [1, 0, 1]
    assert log.value.tolist() == [2.5, 2.0, 3.0], "play ratio (at most 2) plus like, follow, comment, forward"
    assert log.time.tolist() == [1_650_812_741, 1_650_812_742, 1_650_812_743]
    assert log.user.tolist() == [1, 1, 0] and log.item.tolist() == [0, 1, 0]
    assert log.context.to_pylist()[0] == {"tab": 1, "is_rand": 0, "duration": 10.0}
    assert log.context.column_names == ["tab", "is_rand", "duration"], "nothing that is known after the impression"
    assert log.users.to_pylist() == [
        {
            "user_id": 5,
            "user_active_degree": "full_active",
            "follow_user_num_range": "(0,10]",
            "onehot_feat0": "1",
            "onehot_feat4": "2",
        },
        {
            "user_id": 7,
            "user_active_degree": "UNKNOWN",
            "follow_user_num_range": "(0,10]",
            "onehot_feat0": "0",
            "onehot_feat4": None,
        },
    ]
    first = log.items.to_pylist()[0]
    assert first["first_seen"] == 1_649_520_000, "midnight in China"
    assert log.items["tags"].to_pylist() == [["39"], ["62", "7"]] == log.items["categories"].to_pylist()
    assert log.items["music_type"].to_pylist() == ["9", None]
    assert log.items["text"].to_pylist() == [
        "author 1, music 3, type NORMAL, upload Kmovie, seconds 87",
        "author 2, music 4, type AD, upload Kmovie",
    ]


def test_earlier_watches_are_past_events(folder: Path) -> None:
    past = kuairand.load(Source(kind="kuairand-pure", path=str(folder))).past
    assert past.user.tolist() == [1, 1, 1] and past.item.tolist() == [1, 0, 1]
    assert past.time.tolist() == [1_650_000_000] * 3
    assert past.liked.tolist() == [0, 1, 0]


def test_bad_folders(folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.source\.path: expected the folder"):
        kuairand.load(Source(kind="kuairand-pure"))
    source = Source(kind="kuairand-pure", path=str(folder))
    impressions = folder / "impressions.parquet"
    table = pq.read_table(impressions)
    pq.write_table(table.drop_columns(["is_click"]), impressions)
    with pytest.raises(InputError, match=r"impressions\.parquet: no column 'is_click'"):
        kuairand.load(source)
    for name in ("is_click", "time_ms"):
        gap = pa.array([1, None, 1])
        pq.write_table(table.set_column(table.column_names.index(name), name, gap), impressions)
        with pytest.raises(InputError, match=rf"impressions\.parquet: column '{name}': row 1 is null"):
            kuairand.load(source)
    pq.write_table(table.set_column(1, "video_id", pa.array([100, 999, 100])), impressions)
    with pytest.raises(InputError, match=r"impressions\.parquet: video_id: 1 unknown ids, such as 999"):
        kuairand.load(source)
    impressions.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"impressions\.parquet: cannot be read"):
        kuairand.load(source)
    impressions.unlink()
    with pytest.raises(InputError, match=r"impressions\.parquet: no such file"):
        kuairand.load(source)
