"""Who took what: by label, or every seen row; cold items behind the warm ones; oldest first."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys.errors import InputError
from simulator import texts
from simulator.population import Population


def dataset(folder: Path, rule: str) -> Path:
    part = folder / "interactions" / "split=train"
    part.mkdir(parents=True)
    rows = {
        "user_id": ["b", "a", "b", "a", "c"],
        "item_id": ["y", "x", "x", "y", "x"],
        "timestamp": [9, 5, 3, 4, 1],
        "label": pa.array([1, 1, 1, 0, 0], pa.int8()),
    }
    pq.write_table(pa.table(rows), part / "part-00000.parquet")
    pq.write_table(pa.table({"item_id": ["n"]}), folder / "held_out.parquet")
    items = {"item_id": ["n", "x", "y"], "title": ["New", "Ex", None], "categories": [["a", "b"], [], ["c"]]}
    pq.write_table(pa.table(items), folder / "items.parquet")
    (folder / "settings.yaml").write_text(yaml.safe_dump({"label": {"rule": rule}, "split": {"rule": "exposure"}}))
    return folder


def taken(found: Population) -> dict[str, list[str]]:
    each = {}
    for code, user in enumerate(found.users.to_pylist()):
        each[user] = found.items.take(pa.array(found.taken.slice(code, code + 1).values)).to_pylist()
    return each


def test_rows_of_label_1_are_taken_oldest_first(tmp_path: Path) -> None:
    found = Population.read(dataset(tmp_path, "observed"))
    assert taken(found) == {"a": ["x"], "b": ["x", "y"], "c": []}
    assert found.items.to_pylist() == ["x", "y", "n"]
    assert found.warm == 2
    assert found.cold.tolist() == [2]
    assert found.popularity().tolist() == [2, 1, 0]
    assert found.time.tolist() == [5, 3, 9]


def test_where_the_label_is_liking_what_was_seen_is_taken(tmp_path: Path) -> None:
    assert taken(Population.read(dataset(tmp_path, "liked"))) == {"a": ["y", "x"], "b": ["x", "y"], "c": ["x"]}


def test_texts_are_in_the_order_asked_for(tmp_path: Path) -> None:
    dataset(tmp_path, "observed")
    asked = pa.array(["y", "gone", "n"])
    assert texts.read(tmp_path, "{title}. {categories}", 8, asked) == ["c", "", "New. a, b"]


def test_a_file_without_the_templates_columns_is_refused(tmp_path: Path) -> None:
    dataset(tmp_path, "observed")
    with pytest.raises(InputError, match=r"items\.parquet: expected a column of plot"):
        texts.read(tmp_path, "{plot}", 8, pa.array(["x"]))
