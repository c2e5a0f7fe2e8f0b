"""Rows of item content: an id map of their own, each once in a batch, and never hidden."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.errors import InputError
from tests import contents, tiny, wide


def config(home: Path, place: str = "slot", layers: bool = True, **proxy: Any) -> Config:
    paths = {key: str(home / f"{key}.parquet") for key in ("coarse", "layers")}
    model = contents.model(paths, place, layers)
    model["proxy"] |= proxy
    return wide.config(home / "data", home / "run", model=model)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contents.home(tmp_path_factory.mktemp("content"))


def test_every_item_of_the_files_has_a_row_and_there_are_free_ones(home: Path) -> None:
    encoder = fit(config(home))
    told = [f"item {k:02d}" for k in range(tiny.ITEMS) if k % contents.BARE]
    for name, width in (("item_coarse", 8), ("item_layers", 16)):
        assert encoder.maps[name].ids.to_pylist() == told, "also those that no training row names"
        assert encoder.maps[name].free >= 8 and encoder.widths[name] == width
    assert [table.name for table in encoder.spec.content] == ["item_coarse", "item_layers"]


@pytest.mark.parametrize("place", ["slot", "feature"])
def test_each_position_has_its_items_content(home: Path, place: str) -> None:
    encoder = fit(config(home, place))
    slow = wide.Slow(encoder.config).rows("test")
    for batch in Reader(encoder, "test", 16).epoch():
        names = {k: v.values().tolist() for k, v in batch.content.to_dict().items()}
        pairs = list(zip(*names.values(), strict=True))
        assert len(set(pairs)) == len(pairs), "each once"
        assert batch.content.lengths().tolist() == [len(pairs), *[0] * 15] * 2
        shown = [pairs[k] for k in batch.content_index.tolist()]
        wanted = [[slow[row]["item_id"]] if row >= 0 else [None] for row in batch.row_id.tolist()]
        if place == "slot":
            wanted += [slow[row]["history"] for row in batch.row_id.tolist() if row >= 0]
        maps = [encoder.maps[name].ids.to_pylist() for name in names]
        expected = [
            tuple(ids.index(item) + 1 if item in ids else 0 for ids in maps) for items in wanted for item in items
        ]
        assert shown == expected


def test_hidden_items_keep_their_content(home: Path) -> None:
    encoder = fit(config(home))
    pairs = zip(Reader(encoder, "train", 64).epoch(), Reader(encoder, "train", 64, hide_ids=0.5).epoch(), strict=True)
    for shown, hidden in pairs:
        assert not shown.items.values().equal(hidden.items.values())
        assert shown.content.values().equal(hidden.content.values())
        assert shown.content_index.equal(hidden.content_index)


def test_layers_of_an_item_without_a_coarse_vector_are_not_read(home: Path, tmp_path: Path) -> None:
    made = config(home, coarse=str(tmp_path / "few.parquet"))
    pq.write_table(pa.table({"item_id": ["item 01"], "vector": [[1.0] * 8]}), tmp_path / "few.parquet")
    encoder = fit(made)
    table = pq.read_table(split_files(home / "data", "train")[0], partitioning=None)
    found = encoder.encode(table.select(encoder.columns()), 0).content
    known = [item == "item 01" for item in table["item_id"].to_pylist()]
    assert (found[known] == [1, 1]).all() and (found[[not each for each in known]] == 0).all() and any(known)


def test_a_saved_encoder_has_its_content(home: Path) -> None:
    encoder = fit(config(home))
    encoder.save(home / "run" / "encoder")
    loaded = Encoder.load(encoder.config, home / "run" / "encoder")
    assert (loaded.spec, loaded.lineage) == (encoder.spec, encoder.lineage)
    assert fit(config(home, "none")).lineage != encoder.lineage
    for other in (config(home, "none"), config(home, layers=False)):
        with pytest.raises(InputError, match=r"model\.proxy of the config was not in the training run"):
            Encoder.load(other, home / "run" / "encoder")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"item_id": ["a"], "vector": pa.nulls(1, pa.list_(pa.float32()))}, "expected at least one item with a vector"),
        ({"item_id": [1], "vector": [[1.0]]}, "column 'item_id': expected string as in the dataset, found int64"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, "id 'b': expected 1 finite values"),
    ],
)
def test_a_bad_file_is_refused_before_training(home: Path, tmp_path: Path, table: Any, said: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=said):
        fit(config(home, coarse=str(tmp_path / "bad.parquet")))
    with pytest.raises(InputError, match="place=slot reads item vectors: name the file in `coarse`"):
        config(home, coarse=None)
