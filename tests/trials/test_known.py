"""What trials are known by: another for whatever changes what is trained, and for a file that was written anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from recsys import settings
from recsys.search.search import _key
from recsys.trials.known import of_ranker
from recsys.trials.search import digest
from tests import tiny


@pytest.mark.parametrize("name", ["coarse", "layers"])
def test_a_file_of_vectors_that_was_written_anew_is_another(tmp_path: Path, name: str) -> None:
    path = tmp_path / "vectors.parquet"
    files = {"model.proxy.coarse": str(path), f"model.proxy.{name}": str(path)}
    made = settings.with_values(tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run"), files)
    anew(path, lambda: digest(of_ranker(made, 1)))


def test_so_is_the_content_of_the_floor(tmp_path: Path) -> None:
    path = tmp_path / "content.parquet"
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    keys: list[Callable[[], str]] = []
    for system in ("ridge", "ranker"):
        made = settings.with_values(config, {"floor.content": str(path), "search.system": system})
        keys.append(lambda made=made: _key(made, 1, {}))  # type: ignore[misc]
    ranker = keys[1]()
    anew(path, keys[0])
    assert keys[1]() == ranker


def anew(path: Path, key: Callable[[], str]) -> None:
    none = key()
    path.write_text("one")
    one = key()
    assert one == key()
    path.write_text("another")
    assert len({none, one, key()}) == 3


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"train.keep": 9}, True),
        ({"train.profile": True}, True),
        ({"run": "elsewhere"}, True),
        ({"train.batch_size": 7}, False),
        ({"train.shuffle_rows": True}, False),
        ({"model.dim": 4}, False),
    ],
)
def test_what_no_result_depends_on_is_left_out(tmp_path: Path, change: dict[str, object], same: bool) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    other = settings.with_values(config, change)
    assert other != config and (of_ranker(other, 1) == of_ranker(config, 1)) == same
    assert of_ranker(config, 2) != of_ranker(config, 1)
