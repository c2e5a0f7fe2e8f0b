"""Features beside text vectors: blocks as scikit-learn makes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.preprocessing import MultiLabelBinarizer, OneHotEncoder, StandardScaler

from recsys.config import Feature
from recsys.content import features
from recsys.data.schema import ITEMS
from recsys.errors import InputError

COUNT = 40
FEATURES = [
    Feature(name="age", of="user"),
    Feature(name="genres", of="item", kind="multi"),
    Feature(name="year", of="item"),
    Feature(name="price", of="item", kind="dense", log=True),
]


def write(folder: Path) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Items, and text vectors of all but the first, in another order."""
    random = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {
        "item_id": [f"i{k:02}" for k in range(COUNT)],
        "genres": [[str(one) for one in random.permutation(list("abc"))[: k % 3]] or None for k in range(COUNT)],
        "year": [None if k == 3 else str(1990 + random.integers(3)) for k in range(COUNT - 1)] + ["1900"],
        "price": [None if k == 5 else float(random.integers(100)) for k in range(COUNT)],
    }
    pq.write_table(pa.table(columns), folder / ITEMS)
    texts = random.normal(3, 2, (COUNT, 6))
    order = random.permutation(np.arange(1, COUNT))
    ids = [columns["item_id"][k] for k in order]
    pq.write_table(pa.table({"item_id": ids, "vector": list(texts[order])}), folder / "texts.parquet")
    texts[0] = texts[1:].mean(axis=0)
    return columns, texts


def test_each_block_is_centred_and_of_mean_length_one(tmp_path: Path) -> None:
    columns, texts = write(tmp_path)
    out = features.join(tmp_path, tmp_path / "texts.parquet", FEATURES, tmp_path / "texts.parquet")
    table = pq.read_table(out)
    assert table["item_id"].to_pylist() == columns["item_id"]
    genres = MultiLabelBinarizer().fit_transform([one or [] for one in columns["genres"]])
    years = OneHotEncoder(min_frequency=features.RARE, sparse_output=False)
    known = years.fit_transform([[one or "none"] for one in columns["year"]])[:, :3]  # then the rare ones, in one
    price = np.log1p(np.array([np.nan if one is None else one for one in columns["price"]]))[:, None]
    price = np.nan_to_num(StandardScaler().fit_transform(price))
    found, start = np.stack(table["vector"].to_pylist()), 0
    for block in (texts, genres, known, price):
        expected = block - block.mean(axis=0)
        expected = expected / np.sqrt(np.square(expected).sum(axis=1).mean())
        made = found[:, start : start + block.shape[1]]
        np.testing.assert_allclose(made @ made.T, expected @ expected.T, atol=1e-5)  # whatever the order of columns
        start += block.shape[1]
    assert start == found.shape[1]


def test_a_config_without_item_features_and_a_missing_column_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(InputError, match="expected one of: item among them, found none"):
        features.join(tmp_path, tmp_path / "texts.parquet", FEATURES[:1], tmp_path / "out.parquet")
    with pytest.raises(InputError, match="expected a column colour, which the config names"):
        features.join(
            tmp_path, tmp_path / "texts.parquet", [Feature(name="colour", of="item")], tmp_path / "out.parquet"
        )
    assert not (tmp_path / "out.parquet").exists()
