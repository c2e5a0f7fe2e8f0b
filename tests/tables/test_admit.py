"""New items get rows everywhere, evicted ones give them back; against means worked out by hand."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data.ids import IdMap
from recsys.errors import InputError
from recsys.tables import checkpoint, log, service
from recsys.tables.admit import admit, evict
from recsys.tables.bundle import Bundle
from recsys.tables.stored import ROWS, StoredTensor
from tests import tiny
from tests.tables import saved

KINDS = ["drama", "crime", "noir", None]


@pytest.fixture
def made(home: Path, tmp_path: Path) -> Config:
    """A run of its own, with an export; items have up to two categories, and 4 training rows make an item warm."""
    shutil.copytree(home / "row_wise", tmp_path / "run")
    shutil.copytree(home / "data", tmp_path / "data")
    path = tmp_path / "data" / "items.parquet"
    categories = [sorted({KINDS[k % 3], KINDS[k % 2]}) if k % 5 else None for k in range(tiny.ITEMS)]  # type: ignore[type-var]
    pq.write_table(pq.read_table(path).append_column("categories", pa.array(categories, pa.list_(pa.string()))), path)
    config = saved.config(home, "row_wise")
    data = replace(config.data, path=str(tmp_path / "data"))
    return replace(config, run=str(tmp_path / "run"), data=data, tables=replace(config.tables, warm_rows=7))


def ids_of(made: Config) -> IdMap:
    return IdMap.load(Path(made.run) / "encoder" / "item_id.parquet")


def weight(made: Config) -> np.ndarray:
    return saved.plain(Path(made.run))["item_id"]


def items(made: Config, name: str, ids: list, categories: list | None = None) -> Path:
    path = Path(made.run).parent / name
    table = pa.table({"item_id": ids})
    if categories is not None:
        table = table.append_column("categories", pa.array(categories, pa.list_(pa.string())))
    pq.write_table(table, path)
    return path


def expected(made: Config, before: np.ndarray, categories: list[str] | None) -> np.ndarray:
    """The mean of the category means of the warm rows, by a loop."""
    ids = ids_of(made)
    known = pq.read_table(Path(made.data.path) / "items.parquet", columns=["item_id", "categories"]).to_pylist()
    groups: dict[str, list[np.ndarray]] = {}
    every = []
    for item in known:
        row = ids.rows(pa.array([item["item_id"]]))[0]
        if row and ids.counts[row - 1] >= made.tables.warm_rows:
            every.append(before[row])
            for kind in item["categories"] or []:
                groups.setdefault(kind, []).append(before[row])
    means = [np.mean(groups[kind], 0) for kind in categories or [] if kind in groups]
    assert 3 < len(every) < len(known) and len(groups) == 3
    return np.mean(means or every, 0)


def test_new_items_start_from_their_categories_everywhere(made: Config) -> None:
    before, first = weight(made), len(ids_of(made).ids) + 1
    categories = [["drama"], None, ["noir", "crime"], ["never seen"], [], ["drama", "never seen"]]
    names = [f"new {k}" for k in range(6)]
    found = admit(made, items(made, "new.parquet", ["item 03", *names], [["drama"], *categories]))
    assert (found.new, found.known) == (6, 1)
    rows = ids_of(made).rows(pa.array(names))
    assert rows.tolist() == list(range(first, first + 6))
    after = weight(made)
    for row, kinds in zip(rows, categories, strict=True):
        np.testing.assert_allclose(after[row], expected(made, before, kinds), atol=1e-6)
    others = np.delete(np.arange(len(before)), rows)
    assert np.array_equal(after[others], before[others])
    sums = StoredTensor(checkpoint.best(Path(made.run) / "checkpoints"), "item_id", ROWS)
    assert not sums.read(range(first, first + 6)).any()
    bundle = Bundle.load(Path(made.run) / "export")
    assert bundle.ids["item_id"].rows(pa.array(names)).tolist() == rows.tolist()
    np.testing.assert_array_equal(
        bundle.vectors["item_id"].take(bundle.ids["item_id"].rows(pa.array(names))), after[rows]
    )

    again = admit(made, items(made, "more.parquet", ["new 2", "another", "new 2", "another"]))
    assert (again.new, again.known) == (1, 1) and ids_of(made).rows(pa.array(["another"])).tolist() == [first + 6]
    assert admit(made, items(made, "more.parquet", ["new 2", "another"])).delta is None
    assert log.newest(Path(made.run)) == 2


def test_more_items_than_rows_are_refused_before_anything_is_done(made: Config) -> None:
    free, before = ids_of(made).free, weight(made)
    with pytest.raises(InputError, match=rf"{free + 1} new items, but table item_id has {free} free rows of"):
        admit(made, items(made, "new.parquet", [f"new {k}" for k in range(free + 1)]))
    assert log.newest(Path(made.run)) == 0 and np.array_equal(weight(made), before) and ids_of(made).free == free
    assert admit(made, items(made, "new.parquet", [f"new {k}" for k in range(free)])).new == free


def test_an_evicted_row_is_given_away_once_no_delta_names_it(made: Config) -> None:
    run, free = Path(made.run), ids_of(made).free
    admit(made, items(made, "new.parquet", [f"new {k}" for k in range(free)]))
    row = int(ids_of(made).rows(pa.array(["item 03"]))[0])
    gone = items(made, "gone.parquet", ["item 03"])
    with pytest.raises(InputError, match=r"young.parquet: item new 1 is named by a delta of .*--retire"):
        evict(made, items(made, "young.parquet", ["item 03", "new 1"]))
    assert evict(made, gone)
    assert ids_of(made).rows(pa.array(["item 03"])).tolist() == [0]
    after = weight(made)
    assert np.array_equal(after[row], after[0])
    bundle = Bundle.load(run / "export")
    assert bundle.ids["item_id"].rows(pa.array(["item 03"])).tolist() == [0]
    assert evict(made, gone) is None
    with pytest.raises(
        InputError,
        match=r"1 new items, .* has 0 free rows of \d+, and 1 that wait for .*--retire",
    ):
        admit(made, items(made, "late.parquet", ["late"]))
    assert service.retire(run) == 2
    assert admit(made, items(made, "late.parquet", ["late"])).new == 1
    assert ids_of(made).rows(pa.array(["late", "item 03"])).tolist() == [row, 0]
    assert Bundle.load(run / "export").ids["item_id"].rows(pa.array(["late", "item 03"])).tolist() == [row, 0]
    assert len(ids_of(made).ids) + 1 == ids_of(made).capacity


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"item": ["a"]}, "expected one column item_id, found item"),
        ({"item_id": [["a"]]}, "column item_id: expected strings or integers, found list"),
        ({"item_id": [1.5]}, "column item_id: expected strings or integers, found double"),
        ({"item_id": ["a", None]}, "column item_id: row 1: expected no null"),
        ({"item_id": [7]}, "column item_id: expected string, as in training, found int64"),
        ({"item_id": ["a"], "categories": [7]}, "column categories: expected lists of strings"),
    ],
)
def test_bad_files_are_refused_by_name(made: Config, table: dict, said: str) -> None:
    path = Path(made.run).parent / "bad.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(InputError, match=rf"bad.parquet: {said}"):
        admit(made, path)
    path.write_bytes(b"PAR1 not")
    with pytest.raises(InputError, match=r"bad.parquet: cannot be read as Parquet"):
        admit(made, path)
    assert log.newest(Path(made.run)) == 0


def test_where_ids_were_hidden_a_new_item_starts_as_an_unknown_one(made: Config) -> None:
    trained = replace(made, train=replace(made.train, hide_ids=0.05))
    admit(trained, items(made, "new.parquet", ["new"], [["drama"]]))
    after, row = weight(made), int(ids_of(made).rows(pa.array(["new"]))[0])
    assert np.array_equal(after[row], after[0]) and after[0].any()


def test_without_a_warm_item_there_is_no_mean(made: Config) -> None:
    config = replace(made, tables=replace(made.tables, warm_rows=1000))
    with pytest.raises(InputError, match=r"no item has 1000 training rows: lower tables\.warm_rows"):
        admit(config, items(made, "new.parquet", ["new"]))
