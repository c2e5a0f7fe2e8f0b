from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import settings
from recsys.config import Files, Source
from recsys.data import prepare, schema, sources
from recsys.data.check import check
from recsys.data.sources import files
from recsys.errors import InputError

CLICKS = """when,who,what,clicked,page,price,languages
100,007,a,1,home,1.5,en|de
101,008,b,0,search,,
102,007,b,1,home,2.5,de
"""
MAPPING = {"timestamp": "when", "user_id": "who", "item_id": "what", "label": "clicked"}


def csv_source(folder: Path, text: str = CLICKS, **changes: object) -> Source:
    (folder / "clicks.csv").write_text(text)
    given: dict[str, object] = {"path": str(folder / "clicks.csv"), "columns": MAPPING, "multi": ["languages"]}
    return Source(kind="files", interactions=Files(**(given | changes)), licence="ours")  # type: ignore[arg-type]


def parquet_source(folder: Path, columns: dict[str, object], **more: dict[str, object]) -> Source:
    given = {}
    for name, table in {"interactions": columns, **more}.items():
        (folder / name).mkdir()
        pq.write_table(pa.table(table), folder / name / "0.parquet")
        given[name] = Files(path=str(folder / name))
    return Source(kind="files", **given)  # type: ignore[arg-type]


def test_csv_by_column_mapping(tmp_path: Path) -> None:
    log = files.load(csv_source(tmp_path))
    assert log.users["user_id"].to_pylist() == ["007", "008"], "ids of a CSV keep their zeros"
    assert log.items["item_id"].to_pylist() == ["a", "b"] and log.items["title"].to_pylist() == ["", ""]
    assert log.user.tolist() == [0, 1, 0] and log.item.tolist() == [0, 1, 1]
    assert log.time.tolist() == [100, 101, 102] and np.isnan(log.value).all()
    assert log.label is not None and log.label.tolist() == [1, 0, 1]
    assert log.context.to_pylist() == [
        {"page": "home", "price": 1.5, "languages": ["en", "de"]},
        {"page": "search", "price": None, "languages": []},
        {"page": "home", "price": 2.5, "languages": ["de"]},
    ]
    assert log.licence == "ours"


def test_a_clock_that_runs_backwards_changes_nothing_and_is_told(tmp_path: Path) -> None:
    """Rows in any order make the dataset that rows in order make; the note names the first that goes back."""
    random = np.random.default_rng(0)
    table = pa.table(
        {
            "user_id": random.integers(9, size=400),
            "item_id": random.integers(9, size=400),
            "timestamp": np.arange(400),
            "label": random.integers(2, size=400),
        }
    )
    mixed = random.permutation(400)
    mixed[:3] = sorted(mixed[:3])
    found = []
    for name, rows in (("sorted", np.arange(400)), ("mixed", mixed)):
        (tmp_path / name).mkdir()
        pq.write_table(table.take(rows), tmp_path / name / "log.parquet", row_group_size=64)
        for key in ("user_id", "item_id"):
            pq.write_table(pa.table({key: np.arange(9)}), tmp_path / name / f"{key}.parquet")
        source = {"kind": "files", "interactions": {"path": f"{tmp_path}/{name}/log.parquet"}}
        source |= {key: {"path": f"{tmp_path}/{name}/{key[:4]}_id.parquet"} for key in ("users", "items")}
        tree = {"path": f"{tmp_path}/{name}/made", "source": source, "label": {"rule": "column"}}
        data = settings.parse({"data": {**tree, "split": {"rule": "temporal"}, "row_group": 100}}).data
        info, _ = prepare.prepare(data)
        found.append((info, {each: kept.read() for each in schema.SPLITS for kept in parts(data.path, each)}))
    (straight, expected), (back, made) = found
    assert made == expected and len(made) == 3
    steps = -np.diff(mixed)
    first = int(np.argmax(steps > 0)) + 1
    assert straight.notes == [] and back.notes == [
        f"{(steps > 0).sum()} rows are older than the row before them, by up to {steps.max()} seconds, the first at "
        f"{tmp_path}/mixed/log.parquet: row {first}: column 'timestamp': put in order of time"
    ]


def parts(path: str, split: str) -> list[pq.ParquetFile]:
    return [pq.ParquetFile(file) for file in schema.split_files(path, split)]


def test_parquet_with_users_and_items(tmp_path: Path) -> None:
    times = [datetime(1970, 1, 1, 0, 0, 1, 900_000, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)]
    source = parquet_source(
        tmp_path,
        {"user_id": pa.array([3, 9], pa.int32()), "item_id": ["x", "y"], "timestamp": times, "value": [1, 5]},
        users={"user_id": [9, 4], "age": ["young", "old"]},
        items={"item_id": ["y", "x"], "title": ["Y", None], "categories": [["c"], []], "price": [1.0, 2.0]},
    )
    log = files.load(source)
    assert log.users.to_pylist() == [
        {"user_id": 9, "age": "young"},
        {"user_id": 4, "age": "old"},
        {"user_id": 3, "age": None},
    ]
    assert log.user.tolist() == [2, 0] and log.item.tolist() == [1, 0]
    assert log.time.tolist() == [1, 2] and log.value.tolist() == [1, 5] and log.label is None
    assert log.items.column_names == ["item_id", *files.ITEM_COLUMNS, "price"]
    assert log.items["title"].to_pylist() == ["Y", ""]
    assert log.notes == ("1 values of user_id, such as 3, have no row of their own: added without features",)


def test_many_files_share_one_set_of_ids(tmp_path: Path) -> None:
    for number, (user, item) in enumerate([("u1", "a"), ("u2", "b"), ("u1", "b")]):
        table = pa.table(
            {"user_id": [user], "item_id": [item], "timestamp": [number], "label": [True], "page": [f"p{number}"]}
        )
        pq.write_table(table, tmp_path / f"{number}.parquet")
    log = files.load(Source(kind="files", interactions=Files(path=f"{tmp_path}/*.parquet")))
    assert log.user.tolist() == [0, 1, 0] and log.item.tolist() == [0, 1, 1]
    assert log.context["page"].to_pylist() == ["p0", "p1", "p2"]


def test_prepared_and_checked(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    lines = ["when,who,what,clicked,page,price,languages"] + [
        f"{second},{draw.integers(9)},{draw.integers(30)},{draw.integers(2)},p{second % 3},{second / 2},a|b"
        for second in range(600)
    ]
    source = csv_source(tmp_path, "\n".join(lines))
    tree = {
        "data": {
            "path": str(tmp_path / "data"),
            "label": {"rule": "column"},
            "split": {"min_rows": 2, "exposures": [0, 2]},
        },
        "features": [
            {"name": "page"},
            {"name": "price", "kind": "dense"},
            {"name": "languages", "kind": "multi"},
        ],
    }
    config = settings.parse(tree)
    data = type(config.data)(**(vars(config.data) | {"source": source}))
    info, changed = prepare.prepare(data)
    assert changed and check(config) == info and info.context == ["page", "price", "languages"]
    assert not prepare.prepare(data)[1]
    (tmp_path / "clicks.csv").write_text("\n".join(lines[:-1]))
    assert prepare.prepare(data)[1], "a changed file is prepared again"
    feedback = pq.read_schema(schema.split_files(tmp_path / "data", "feedback")[0])
    assert str(feedback.field("languages").type) == "list<element: string>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            CLICKS.replace("who", "whom"),
            r"clicks\.csv: no column 'who' \(data\.source\.interactions\.columns\.user_id\)",
        ),
        (CLICKS.replace("101,008", "101,"), r"clicks\.csv: row 1: column 'user_id': is null"),
        (CLICKS.replace("b,0", "b,2"), r"clicks\.csv: row 1: column 'label': 2: expected 0 or 1"),
        (CLICKS.replace("b,0", "b,"), r"clicks\.csv: row 1: column 'label': is null"),
        (CLICKS.replace("102,", "1020000000000,"), r"row 2: column 'timestamp': 1020000000000: expected seconds"),
        (CLICKS.replace("100,", "noon,"), r"column 'timestamp': expected seconds or a timestamp, found string"),
        (CLICKS.replace("page", "history"), r"column 'history' is a name of thawrec's own"),
        (CLICKS + "103,007\n", r"clicks\.csv: cannot be read: .*Expected 7 columns"),
    ],
)
def test_bad_csv(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        files.load(csv_source(tmp_path, text))


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.source\.interactions: expected files"):
        sources.load(settings.parse({"data": {"source": {"kind": "files"}}}).data)
    with pytest.raises(InputError, match=r"data\.source\.interactions\.path: .*nothing: no \.parquet, \.csv"):
        files.load(Source(kind="files", interactions=Files(path=str(tmp_path / "nothing"))))
    with pytest.raises(InputError, match="expected a column 'value' or 'label'"):
        files.load(csv_source(tmp_path, columns={"timestamp": "when", "user_id": "who", "item_id": "what"}))


@pytest.mark.parametrize(
    ("interactions", "users", "message"),
    [
        ({"user_id": [1.0, 2.0]}, None, r"column 'user_id': expected string or integer ids, found double"),
        ({"user_id": [1, None]}, None, r"0\.parquet: row 1: column 'user_id': is null"),
        ({"value": ["a", "b"]}, None, r"column 'value': expected numbers, found string"),
        ({"timestamp": [1.0, float("nan")]}, None, r"row 1: column 'timestamp': nan: expected seconds"),
        (
            {"user_id": pa.array([1, 2**63], pa.uint64())},
            None,
            r"interactions/0\.parquet: column 'user_id': Integer value 9223372036854775808 not in range",
        ),
        (
            {},
            {"user_id": pa.array([1, 2**63], pa.uint64())},
            r"users/0\.parquet: column 'user_id': Integer value 9223372036854775808 not in range",
        ),
        ({}, {"user_id": [1, 1]}, r"users: column 'user_id': 1 occurs 2 times; expected once"),
        ({}, {"user_id": [1, None]}, r"users/0\.parquet: row 1: column 'user_id': is null"),
        ({}, {"name": ["x"]}, r"users/0\.parquet: no column 'user_id'"),
    ],
)
def test_bad_parquet(interactions: dict, users: dict | None, message: str, tmp_path: Path) -> None:
    columns = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "value": [0.5, 1.0]} | interactions
    source = parquet_source(tmp_path, columns, **({"users": users} if users else {}))
    with pytest.raises(InputError, match=message):
        files.load(source)


def test_columns_that_no_feature_can_have_are_named(tmp_path: Path) -> None:
    columns = {"user_id": [1], "item_id": [1], "timestamp": [1], "value": [1.0], "extra": [{"a": 1}]}
    log = files.load(parquet_source(tmp_path, columns))
    assert log.context.column_names == [] and log.notes[0].startswith("column 'extra' left out")


def test_ids_of_different_types_become_strings(tmp_path: Path) -> None:
    columns = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "value": [0.5, 1.0]}
    log = files.load(parquet_source(tmp_path, columns, users={"user_id": ["2", "1"], "age": ["x", "y"]}))
    assert log.users["user_id"].to_pylist() == ["2", "1"] and log.user.tolist() == [1, 0]


def test_the_example_config_reads_what_it_describes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = settings.load(Path(__file__).parents[2] / "configs" / "own-logs.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs" / "impressions").mkdir(parents=True)
    rows = {"uid": ["u1", "u2"], "video": [7, 8], "shown_at": [1, 2], "clicked": [0, 1], "page": ["a", "b"]}
    pq.write_table(pa.table(rows), "logs/impressions/0.parquet")
    pq.write_table(pa.table({"uid": ["u2", "u1"], "country": ["NL", "DE"]}), "logs/users.parquet")
    Path("logs/videos.csv").write_text("video,name,tags\n8,Eight,x|y\n7,Seven,\n")
    log = sources.load(example.data)
    assert log.users.to_pylist() == [{"user_id": "u2", "country": "NL"}, {"user_id": "u1", "country": "DE"}]
    assert log.items["title"].to_pylist() == ["Eight", "Seven"]
    assert log.items["categories"].to_pylist() == [["x", "y"], []]
    assert log.user.tolist() == [1, 0] and log.item.tolist() == [1, 0]
