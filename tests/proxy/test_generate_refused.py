"""What `tools.align generate` refuses, by one line that names it; nothing of the run has changed then."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxy import kept
from proxy.generate import generate, refresh
from proxy.service import Generator
from proxy.store import Store
from recsys.data.ids import IdMap
from recsys.errors import InputError
from recsys.tables import log
from tests.proxy import models, slotted
from tests.proxy.slotted import CPU, VECTORS, write
from tests.ranks import run_ranks
from tools import align

BAD: list[tuple[dict[str, Any], str]] = [
    ({"title": ["a"]}, "expected one column item_id, found title"),
    ({"item_id": ["a", None], "title": ["b", "c"]}, "column 'item_id': expected no nulls, found 1"),
    ({"item_id": ["a", "b", "a"], "title": ["b", "c", "d"]}, "column 'item_id': 'a' occurs 2 times; expected once"),
    ({"item_id": [7], "title": ["a"]}, "column 'item_id': expected string as in the dataset, found int64"),
    ({"item_id": ["a"], "year": [7]}, "expected a column of title, text, found item_id, year"),
    ({"item_id": ["a"], "title": [b"\xff"]}, "column 'title': expected strings"),
    ({"item_id": ["a", "b"], "title": ["", None]}, "none of 2 items has any content"),
    ({"item_id": pa.array([], pa.string()), "title": pa.array([], pa.string())}, "none of 0 items has any content"),
]


@pytest.mark.parametrize(("table", "said"), BAD)
def test_a_bad_file(slots: Path, tmp_path: Path, table: dict[str, Any], said: str) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table(table), path)
    with slotted.inside(slots):
        with pytest.raises(InputError, match=rf"bad\.parquet: {said}"):
            generate(slotted.config(), path, CPU)
        assert log.newest(Path("slot")) == 0 and not (VECTORS / "generated").exists()


def test_a_file_that_is_none(slots: Path, tmp_path: Path) -> None:
    with slotted.inside(slots):
        with pytest.raises(InputError, match=r"none\.parquet: no such file"):
            generate(slotted.config(), tmp_path / "none.parquet", CPU)
        cut = write(tmp_path / "cut.parquet", ["a"])
        cut.write_bytes(cut.read_bytes()[:-9])
        with pytest.raises(InputError, match=r"cut\.parquet: truncated or not Parquet"):
            generate(slotted.config(), cut, CPU)


def test_a_run_or_a_folder_that_has_nothing_to_generate_with(here: Path) -> None:
    path = write(here / "new.parquet", ["a"])
    with pytest.raises(InputError, match=r"model\.proxy\.place: none: this ranker reads no proxies"):
        generate(slotted.base(), path, CPU)
    with pytest.raises(InputError, match="nowhere: no run there: train first"):
        refresh(slotted.config("nowhere"))
    shutil.copytree(VECTORS, "elsewhere")
    for file, said in (
        ("mine.parquet", "expected elsewhere/coarse.parquet"),
        ("coarse.parquet", "no content.parquet lies"),
    ):
        Path("elsewhere/content.parquet").unlink(missing_ok=True)
        made = slotted.config(coarse=f"elsewhere/{file}", layers="elsewhere/layers.parquet")
        with pytest.raises(InputError, match=rf"model\.proxy\.coarse: elsewhere/{file}: {said}"):
            generate(made, path, CPU)
    shutil.rmtree("elsewhere/encoder")
    with pytest.raises(InputError, match=r"elsewhere/coarse\.parquet: no encoder/trained\.safetensors lies beside it"):
        generate(slotted.config(coarse="elsewhere/coarse.parquet", layers="elsewhere/layers.parquet"), path, CPU)
    made = slotted.config(coarse=f"{VECTORS}/coarse.parquet", layers="elsewhere/layers.parquet")
    with pytest.raises(InputError, match=r"model\.proxy\.layers: elsewhere/layers\.parquet: expected base/"):
        generate(made, path, CPU)


def test_an_encoder_that_is_damaged_or_does_not_fit(here: Path) -> None:
    made, path = slotted.config(), write(here / "new.parquet", ["a"])
    about, weights = VECTORS / "about.json", VECTORS / "encoder" / "trained.safetensors"
    told = json.loads(about.read_text())
    about.write_text(json.dumps({**told, "groups": [[0], [1, 2]]}))
    with pytest.raises(InputError, match=r"about\.json: names layer 2, but llama has 2 layers"):
        generate(made, path, CPU)
    about.write_text(json.dumps({**told, "dim": None}))
    with pytest.raises(InputError, match=r"about\.json: expected what tools.align writes"):
        generate(made, path, CPU)
    about.write_text(json.dumps(told))
    whole = bytearray(weights.read_bytes())
    whole[-3] ^= 1
    weights.write_bytes(whole)
    with pytest.raises(InputError, match=r"trained\.safetensors: damaged"):
        generate(made, path, CPU)


def changed(file: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write a file of vectors anew with others [n, width] in it."""
    path = VECTORS / file
    table = pq.read_table(path)
    vectors = change(np.stack(table["vector"].to_pylist()))
    pq.write_table(table.set_column(1, "vector", pa.array(list(vectors), table["vector"].type)), path)


def halves_exchanged(x: np.ndarray) -> np.ndarray:
    """The layers in other groups: as wide, and the coarse proxies are the same."""
    return np.roll(x, x.shape[1] // 2, axis=1)


@pytest.mark.parametrize(("file", "change"), [(kept.COARSE, np.negative), (kept.LAYERS, halves_exchanged)])
def test_vectors_that_the_ranker_was_not_trained_with(here: Path, file: str, change: Any) -> None:
    made, path = slotted.config(), write(here / "new.parquet", ["a"])
    assert generate(made, path, CPU).encoded == 1
    shutil.move(VECTORS / "generated", "aside")
    changed(file, change)
    said = r"vectors: these are not the vectors that .* was trained with: train a ranker on them"
    for work in (lambda: generate(made, path, CPU), lambda: refresh(made), lambda: Generator.of(made)):
        with pytest.raises(InputError, match=said):
            work()
    assert not (VECTORS / "generated").exists()


@pytest.mark.parametrize("more", [-models.WIDTH, models.WIDTH, 4])
def test_vectors_of_another_width(here: Path, more: int) -> None:
    width = slotted.GROUPS * models.WIDTH
    changed(kept.LAYERS, lambda x: np.concatenate([x, x], axis=1)[:, : width + more])
    with pytest.raises(InputError, match=rf"vectors of {width + more} numbers are not those .* table has {width}: "):
        generate(slotted.config(), write(here / "new.parquet", ["a"]), CPU)


def test_a_run_stays_open_when_every_item_has_other_content_by_now(here: Path) -> None:
    made = slotted.config()
    every = pq.read_table(VECTORS / kept.COARSE)["item_id"].to_pylist()
    path = write(here / "all.parquet", every)
    assert generate(made, path, CPU).encoded == len(every)
    assert generate(made, path, CPU).issued.held == len(every) and refresh(made).delta is None


def test_more_items_than_free_rows(here: Path) -> None:
    made = slotted.config()
    free = IdMap.load(Path("slot/encoder/item_coarse.parquet")).free
    said = rf"{free + 1} items without a row, but table item_coarse has {free} free rows of \d+: .* model\.spare"
    with pytest.raises(InputError, match=said):
        generate(made, write(here / "many.parquet", [f"new {k}" for k in range(free + 1)]), CPU)
    assert log.newest(Path("slot")) == 0
    with pytest.raises(InputError, match=said):
        refresh(made)
    found = generate(made, write(here / "many.parquet", [f"new {k}" for k in range(free)]), CPU)
    assert found.issued.items == free and found.issued.delta


def test_a_damaged_part_of_the_store(here: Path) -> None:
    made = slotted.config()
    generate(made, write(here / "new.parquet", ["a", "b"]), CPU)
    [part] = (VECTORS / "generated").iterdir()
    whole = part.read_bytes()
    table = pq.read_table(part)
    at = whole.index(np.asarray(table["layers"].combine_chunks().flatten()).tobytes()[:20])
    part.write_bytes(whole[:at] + b"\0\0\0" + whole[at + 3 :])
    with pytest.raises(InputError, match=r"part-00000\.parquet: damaged"):
        refresh(made)
    part.write_bytes(whole[:-7])
    with pytest.raises(InputError, match=r"part-00000\.parquet: damaged: .*: remove it and generate"):
        refresh(made)
    part.write_bytes(whole)
    with pytest.raises(InputError, match=r"part-00000\.parquet: expected item_id, digest with ids of type int64"):
        Store(VECTORS, pa.int64())


def test_the_command_tells_what_it_has_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = slotted.config()
    command = ["slot/config.yaml", f"run={made.run}"]
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["a film", ""]}), "new.parquet")
    align.main(["generate", *command, "--items", "new.parquet"])
    assert capsys.readouterr().out == (
        "2 items: 1 encoded, 1 without content\n"
        "proxies of 1 items issued, 0 were there: slot/deltas/00000001-00000001\n"
    )
    align.main(["refresh", *command])
    assert capsys.readouterr().out == "proxies of 0 items issued, 1 were there\n"
    with pytest.raises(SystemExit):
        align.main(["generate", "--help"])
    assert "usage" in (told := capsys.readouterr().out) and "--items PARQUET" in told
    with pytest.raises(SystemExit):
        align.main(["generate", *command])


def trained_flat(home: Path) -> None:
    slotted.trained(home, slotted.config("flat"), exported=False)


def test_without_a_bundle_there_is_none_to_wait_for(here: Path) -> None:
    run_ranks(1, trained_flat, here)
    assert generate(slotted.config("flat"), write(here / "new.parquet", ["a"]), CPU).issued.delta
