"""The filter end to end: it finds who takes a cold item, is not trained twice, and depends on its settings alone."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.evaluate.vectors import read_vectors
from simulator import filter as filters
from simulator import judge, retrieve
from tests.simulator import planted

COLD = slice(planted.ITEMS - planted.COLD, planted.ITEMS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("filter")
    planted.write(home / "data")
    return home


def train(home: Path, folder: Path, run: str, **options: object) -> tuple[Path, dict[str, Any]]:
    config = replace(planted.config(home, folder, **options), run=str(home / run))
    with process_group() as ranks:
        made = filters.train(config, judge.load(config.simulator, ranks.device), ranks)
    return made, json.loads((made / "about.json").read_text())


def vectors(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found = read_vectors(folder, pa.array(planted.USER_IDS), pa.array(planted.ITEM_IDS))
    assert not found.unknown_users.any() and not found.unknown_items.any()
    return found.users, found.items


def precision(users: NDArray[np.float32], items: NDArray[np.float32]) -> float:
    """Of the users found for cold items: who will take them."""
    found = np.argsort(-(items[COLD] @ users.T), axis=1)[:, : planted.TAKEN]
    return float(np.mean([np.isin(*pair).mean() for pair in zip(found, planted.TAKERS[COLD], strict=True)]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"language": False},
        {"behaviour": False},
        {"behaviour": False, "coupled": 0},
        {"kind": "llm-ins"},
        {"kind": "llm-ins", "behaviour": False},
    ],
    ids=["coldllm", "behaviour", "language", "uncoupled", "llm-ins", "llama"],
)
def test_the_users_of_cold_items_are_found(
    home: Path, folder: Path, options: dict[str, object], request: pytest.FixtureRequest
) -> None:
    run = request.node.callspec.id
    made, about = train(home, folder, run, **options)
    users, items = vectors(made)
    assert precision(users, items) > 4 * planted.TAKEN / planted.USERS  # four times what chance would give
    told = about["left_out"]
    assert told["filter"]["recall@20"] > 2 * told["random"]["recall@20"]
    asked = any((home / run / "simulator").glob("judged/*.parquet"))
    assert asked == (run in ("coldllm", "language")) and not (home / run / "simulator" / "content").exists()


def test_a_filter_that_is_there_is_not_trained_again_and_its_index_changes_alone(home: Path, folder: Path) -> None:
    made, about = train(home, folder, "again", language=False, epochs=2)
    before = {path.name: os.stat(path).st_mtime_ns for path in made.iterdir()}
    train(home, folder, "again", language=False, epochs=2)
    assert {path.name: os.stat(path).st_mtime_ns for path in made.iterdir()} == before
    (made / "users.faiss").unlink()
    told = {**about, "index": None}
    (made / "about.json").write_text(json.dumps(told))
    train(home, folder, "again", language=False, epochs=2)
    users, items = vectors(made)
    _, scores = retrieve.top(retrieve.read(made / "users.faiss"), items, 3)
    np.testing.assert_allclose(scores[:, 0], (items @ users.T).max(axis=1), rtol=1e-5)
    assert os.stat(made / "user_id.parquet").st_mtime_ns == before["user_id.parquet"]
    _, changed = train(home, folder, "again", language=False, epochs=2, seed=1)
    assert changed["digest"] != about["digest"] and not np.array_equal(vectors(made)[0], users)


def test_the_same_settings_give_the_same_vectors(home: Path, folder: Path) -> None:
    first, again = (vectors(train(home, folder, run, epochs=3)[0]) for run in ("one", "two"))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


def test_a_new_items_vector_is_made_of_its_content(home: Path, folder: Path) -> None:
    made, _ = train(home, folder, "new", epochs=2, coupled=8)
    content = np.array(pq.read_table(home / "data" / "content.parquet")["vector"].to_pylist(), np.float32)
    with torch.inference_mode():
        found = filters.item_towers(made)(torch.from_numpy(content)).numpy()
    np.testing.assert_allclose(found, vectors(made)[1], rtol=1e-4, atol=1e-4)


def test_an_item_without_content_has_no_vector(home: Path, folder: Path) -> None:
    """The towers would make the same of all of these."""
    every = pq.read_table(home / "data" / "content.parquet")
    some = home / "some.parquet"
    pq.write_table(every.slice(1, len(every) - 2), some)
    made, _ = train(home, folder, "some", content=str(some), epochs=1, language=False)
    found = read_vectors(made, pa.array(planted.USER_IDS), pa.array(planted.ITEM_IDS))
    assert np.flatnonzero(found.unknown_items).tolist() == [0, planted.ITEMS - 1] and not found.unknown_users.any()


def test_without_any_pair_there_is_no_filter(home: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="expected behaviour or language, or both"):
        train(home, folder, "none", behaviour=False, language=False)


def test_content_by_the_judge_is_made_once(home: Path, folder: Path) -> None:
    train(home, folder, "judged", content=None, epochs=1, language=False)
    [file] = (home / "judged" / "simulator" / "content").iterdir()
    before = file.stat().st_mtime_ns
    train(home, folder, "judged", content=None, epochs=2, language=False)
    assert [file] == [*(home / "judged" / "simulator" / "content").iterdir()] and file.stat().st_mtime_ns == before
