from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data import prepare, schema, sources
from recsys.data.log import Log, Past
from recsys.errors import InputError
from recsys.floor.kept import kept_table
from tests.data.logs import config, random_log, read

RULES = ["exposure", "cold-items", "temporal", "leave-one-out", "warm-up"]


def made(log: Log, path: Path, **changes: object) -> tuple[schema.Info, Config]:
    path.mkdir()
    settings = config(path, **changes)
    return prepare.write(log, settings.data, path), settings


def big_log() -> Log:
    """Enough rows for `warm-up`: items with more than 200 rows, and with 60 to 200."""
    draw = np.random.default_rng(0)
    item = np.repeat(np.arange(40), np.linspace(30, 320, 40).astype(int)).astype(np.int32)
    log = random_log(unique=False)
    user = draw.integers(60, size=len(item)).astype(np.int32)
    label = draw.integers(2, size=len(item)).astype(np.int8)
    return replace(
        log,
        user=user,
        item=item,
        time=draw.integers(3000, size=len(item)),
        label=label,
        value=(1 + 4 * label).astype(np.float32),
        context=log.context.take(np.arange(len(item)) % log.context.num_rows),
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("label", ["column", "observed"])
def test_histories_hold_strictly_earlier_rows_of_the_user(rule: str, label: str, tmp_path: Path) -> None:
    log = big_log()
    info, _ = made(log, tmp_path / "made", data__split__rule=rule, data__label__rule=label)
    users, items = log.users["user_id"].to_pylist(), log.items["item_id"].to_pylist()
    earlier: dict[str, list[tuple[int, str]]] = {name: [] for name in users}
    for user, item, time in zip(log.user.tolist(), log.item.tolist(), log.time.tolist(), strict=True):
        earlier[users[user]].append((time, items[item]))
    held = set(pq.read_table(tmp_path / "made" / schema.HELD_OUT)["item_id"].to_pylist())
    rows = 0
    for split in info.counts:
        table = read(tmp_path / "made", split)
        rows += table.num_rows
        assert table.num_rows == info.counts[split]
        assert (np.diff(table["timestamp"].to_numpy()) >= 0).all()
        for row in table.slice(0, 400).to_pylist():
            known = [item for time, item in earlier[row["user_id"]] if time < row["timestamp"]]
            assert set(row["history"]) <= set(known) and len(row["history"]) <= min(8, len(known))
            assert len(row["history"]) == len(row["history_label"])
            if rule in ("exposure", "warm-up", "cold-items"):
                assert not held & set(row["history"])
            elif len(known) >= 8:
                assert len(row["history"]) == 8
    assert rows <= 2 * len(log.user)


def test_the_target_and_its_second_are_in_no_history_of_its_row(tmp_path: Path) -> None:
    log = random_log()
    times = {(u, i): t for u, i, t in zip(log.user.tolist(), log.item.tolist(), log.time.tolist(), strict=True)}
    info, _ = made(log, tmp_path / "made")
    for split in info.counts:
        for row in read(tmp_path / "made", split).to_pylist():
            assert row["item_id"] not in row["history"]
            for item in row["history"]:
                assert times[int(row["user_id"][1:]), int(item[1:])] < row["timestamp"]


def test_totals_of_the_past_are_of_strictly_earlier_seconds(tmp_path: Path) -> None:
    log = random_log()
    info, _ = made(log, tmp_path / "made", data__split__rule="temporal")
    label = log.label
    assert label is not None
    for split in info.counts:
        for row in read(tmp_path / "made", split).to_pylist():
            past = (log.user == int(row["user_id"][1:])) & (log.time < row["timestamp"])
            assert row["history_count"] == past.sum()
            assert row["history_liked"] == (pytest.approx(label[past].mean()) if past.any() else None)


def test_training_files_do_not_change_when_test_rows_do(tmp_path: Path) -> None:
    log = random_log()
    info, _ = made(log, tmp_path / "a", data__split__cut="time")
    cut = info.time_range["test"][0]
    late = log.time >= cut
    assert log.label is not None
    changed = replace(
        log,
        label=np.where(late, 1 - log.label, log.label).astype(np.int8),
        value=np.where(late, 9, log.value).astype(np.float32),
    )
    made(changed, tmp_path / "b", data__split__cut="time")
    for split in ("train", "valid", "feedback"):
        assert read(tmp_path / "a", split).equals(read(tmp_path / "b", split))
    assert not read(tmp_path / "a", "test").equals(read(tmp_path / "b", "test"))


def test_scored_rows_do_not_depend_on_the_feedback_kept(tmp_path: Path) -> None:
    log = random_log()
    made(log, tmp_path / "a", data__split__exposures=[0, 1])
    made(log, tmp_path / "b", data__split__exposures=[0, 7])
    for split in ("train", "valid", "test"):
        assert read(tmp_path / "a", split).equals(read(tmp_path / "b", split))
    fewer, more = (read(tmp_path / name, "feedback").to_pandas() for name in ("a", "b"))
    assert fewer["rank"].max() == 1 and more["rank"].max() == 7
    assert fewer[["user_id", "item_id", "timestamp"]].equals(
        more[more["rank"] == 1].reset_index(drop=True)[["user_id", "item_id", "timestamp"]]
    )
    newest = more.groupby("item_id")["rank"].apply(lambda rank: sorted(rank) == list(range(1, len(rank) + 1)))
    assert newest.all()
    by_rank = more.sort_values(["item_id", "rank"]).groupby("item_id")["timestamp"]
    assert by_rank.apply(lambda second: second.is_monotonic_decreasing).all()


def test_past_events_of_new_items_are_masked(tmp_path: Path) -> None:
    log = random_log()
    count = 60 * 40
    past = Past(
        user=np.repeat(np.arange(60), 40).astype(np.int32),
        item=np.tile(np.arange(40), 60).astype(np.int32),
        time=np.full(count, -1),
        liked=np.ones(count, np.int8),
    )
    info, _ = made(replace(log, past=past), tmp_path / "made", data__history=200)
    held = set(pq.read_table(tmp_path / "made" / schema.HELD_OUT)["item_id"].to_pylist())
    first = read(tmp_path / "made", "train").to_pylist()[0]
    assert len(held) == 8 and first["history"] == [f"i{k}" for k in range(40) if f"i{k}" not in held]
    assert "8 of 40 items are held out as new, 8 of them scored" in info.notes
    assert any("of masked items" in note for note in info.notes)


def test_columns_and_types(tmp_path: Path) -> None:
    made(random_log(), tmp_path / "made")
    file = schema.split_files(tmp_path / "made", "feedback")[0]
    kinds = {field.name: str(field.type) for field in pq.read_schema(file)}
    assert kinds == {
        "user_id": "string",
        "item_id": "string",
        "timestamp": "int64",
        "label": "int8",
        "value": "float",
        "history": "list<element: string>",
        "history_label": "list<element: int8>",
        "history_count": "int32",
        "history_liked": "float",
        "hour": "int64",
        "device": "string",
        "rank": "int32",
    }
    coded = pq.ParquetFile(file, read_dictionary=[schema.HISTORY_LEAF]).read_row_group(0)
    assert str(coded.schema.field("history").type.value_type).startswith("dictionary")
    assert coded["history"].to_pylist() == pq.ParquetFile(file).read_row_group(0)["history"].to_pylist()
    items = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "made" / schema.ITEMS)}
    assert list(items)[:6] == ["item_id", "title", "text", "categories", "image", "first_seen"]
    assert items["categories"] == "list<element: string>" and items["image"] == "binary"


def test_part_files_hold_whole_row_groups_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log()
    made(log, tmp_path / "one")
    monkeypatch.setattr(prepare, "PART_ROWS", 300)
    info, _ = made(log, tmp_path / "many")
    files = schema.split_files(tmp_path / "many", "test")
    assert len(files) == -(-info.counts["test"] // 256)
    assert [pq.read_metadata(file).row_group(0).num_rows for file in files[:-1]] == [128] * (len(files) - 1)
    assert read(tmp_path / "many", "test").equals(read(tmp_path / "one", "test"))


def test_phases_of_warm_up(tmp_path: Path) -> None:
    info, _ = made(big_log(), tmp_path / "made", data__split__rule="warm-up")
    assert info.exposures == [0, 20, 40, 60]
    feedback = read(tmp_path / "made", "feedback").to_pandas()
    feedback["phase"] = pd.cut(feedback["rank"], info.exposures, labels=list("abc")).astype(str)
    assert (feedback.groupby(["item_id", "phase"]).size() == 20).all()
    ends = feedback.groupby(["item_id", "phase"])["timestamp"].agg(["min", "max"]).unstack()
    assert (ends["max", "a"] <= ends["min", "b"]).all() and (ends["max", "b"] <= ends["min", "c"]).all()
    columns = ["item_id", "timestamp"]
    first = kept_table(tmp_path / "made", 20, columns).to_pandas()
    assert first.equals(feedback.loc[feedback["phase"] == "a", columns].reset_index(drop=True))


def test_drawn_rows_follow_their_positive(tmp_path: Path) -> None:
    made(random_log(), tmp_path / "made", data__label__rule="observed", data__label__negatives=2)
    held = pq.read_table(tmp_path / "made" / schema.HELD_OUT).to_pandas().set_index("item_id")
    for split in ("train", "valid", "test", "feedback"):
        table = read(tmp_path / "made", split).to_pandas()
        assert table["value"].isna().equals(table["label"] == 0)
        positive = table["label"].eq(1).cumsum()
        for column in ["user_id", "timestamp", *(["rank"] if split == "feedback" else [])]:
            assert (table.groupby(positive)[column].nunique() == 1).all()
        new = table["item_id"].isin(held.index)
        assert (new.groupby(positive).nunique() == 1).all()
        if split in ("train", "valid"):
            assert not new.any()
        if split == "test":
            assert held.loc[table["item_id"][new], "scored"].all() and new.any()


def test_preparing_twice_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log()
    monkeypatch.setattr(sources, "load", lambda data: log)
    monkeypatch.setattr(sources, "fingerprint", lambda data: ["stamp"])
    settings = config(tmp_path / "data")
    first, changed = prepare.prepare(settings.data)
    assert changed and first == schema.read_info(tmp_path / "data")
    before = (tmp_path / "data" / schema.MANIFEST).stat().st_mtime_ns
    again, changed = prepare.prepare(settings.data)
    assert not changed and again == first
    assert (tmp_path / "data" / schema.MANIFEST).stat().st_mtime_ns == before
    other, changed = prepare.prepare(config(tmp_path / "data", data__split__seed=1).data)
    assert changed and other.seed == 1 and other.fingerprint != first.fingerprint
    monkeypatch.setattr(sources, "fingerprint", lambda data: ["another stamp"])
    assert prepare.prepare(config(tmp_path / "data", data__split__seed=1).data)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing temporary is left"


def test_a_failure_leaves_the_old_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log()
    monkeypatch.setattr(sources, "load", lambda data: log)
    monkeypatch.setattr(sources, "fingerprint", lambda data: ["stamp"])
    first, _ = prepare.prepare(config(tmp_path / "data").data)

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(prepare, "_write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        prepare.prepare(config(tmp_path / "data", data__split__seed=1).data)
    assert schema.read_info(tmp_path / "data") == first
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_is_not_ours_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "load", lambda data: random_log())
    monkeypatch.setattr(sources, "fingerprint", lambda data: ["stamp"])
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match=r"holds files but no dataset\.yaml"):
        prepare.prepare(config(tmp_path).data)
    made(random_log(), tmp_path / "mine")
    with pytest.raises(InputError, match=r"not made by tools\.prepare"):
        prepare.prepare(config(tmp_path / "mine").data)
