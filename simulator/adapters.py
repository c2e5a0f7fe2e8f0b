"""LoRA adapters in PEFT's form: a folder with adapter_config.json and adapter_model.safetensors."""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from recsys.config_simulator import Judge
from recsys.content import pretrained
from recsys.errors import InputError
from recsys.files import creating

_UNFIT = (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)
"""What PEFT raises of a folder that it cannot use."""


def fresh(model: Any, rank: int, seed: int) -> Any:
    """The model as PEFT's, with an adapter of every linear layer but its head (q, k, v, o and MLP), to be trained.

    The adapter is scaled by 2, float32 whatever the model is, and changes nothing yet.
    """
    from peft import LoraConfig, get_peft_model

    options = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    # PEFT looks at a name that transformers has given another, and warns of it.
    with torch.random.fork_rng([]), warnings.catch_warnings(action="ignore", category=FutureWarning):
        torch.manual_seed(seed)
        return get_peft_model(model, options)


def attached(model: Any, folder: Path, key: str, trained: bool = False) -> Any:
    """The model as PEFT's, with the adapter beside its weights.

    key: of the config, which errors name. trained: whether the adapter is to be trained on.

    Raises:
        InputError: no adapter in safetensors, or one of another base: its tensors are not those that the model needs.
    """
    from peft import PeftModel, get_peft_model_state_dict

    where = f"{key}: {folder}"
    try:
        # PEFT would read a pickle where there are no safetensors.
        with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
            stored = set(weights.keys())
        with warnings.catch_warnings(action="ignore"):  # of missing tensors, which are refused below
            adapted = PeftModel.from_pretrained(
                model, str(folder), is_trainable=trained, torch_device="cpu", local_files_only=True
            )
        needed = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except _UNFIT as error:
        raise _unfit(where, error) from None
    if wrong := sorted(stored ^ needed):
        raise InputError(f"{where}: an adapter of another base: {wrong[0]} ({len(wrong)} tensors in all)")
    return adapted


def merged(model: Any, folder: Path) -> Any:
    """The model with the adapter added into its weights, which are changed in place and keep their precision.

    Raises:
        InputError: as `attached`, or the adapter has a number that is not finite.
    """
    key = "simulator.judge.adapter"
    adapted = attached(model, folder, key)
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except _UNFIT as error:
        raise _unfit(f"{key}: {folder}", error) from None


def save_merged(config: Judge, folder: Path) -> None:
    """Write the judge's model with its adapter merged, and its tokenizer, to a new folder for servers to read.

    The weights are in safetensors, in the precision that `bf16` says.

    Raises:
        InputError: no adapter in the config, one that `merged` refuses, no such model, or a folder that is there.
    """
    if config.adapter is None:
        raise InputError("simulator.judge.adapter: expected the folder of the adapter to merge")
    if folder.exists():
        raise InputError(f"{folder}: is there already: expected the name of a new folder")
    dtype = torch.bfloat16 if config.bf16 else torch.float32
    model, tokenizer = pretrained.load(config.name, "text", dtype, Path(config.cache), "simulator.judge")
    with creating(folder) as made:
        merged(model, Path(config.adapter)).save_pretrained(made)
        tokenizer.save_pretrained(made)


def _unfit(where: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{where}: no LoRA adapter of this model, in safetensors: {reason}")
