"""LoRA adapters in PEFT's form: a folder with adapter_config.json and adapter_model.safetensors."""

import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from recsys.errors import InputError


def merged(model: Any, folder: Path) -> Any:
    """The model with the adapter added into its weights, which are changed in place and keep their precision.

    Raises:
        InputError: no adapter in safetensors, or one of another base: its tensors are not those that the model needs.
    """
    from peft import PeftModel, get_peft_model_state_dict

    where = f"simulator.judge.adapter: {folder}"
    try:
        # PEFT would read a pickle where there are no safetensors.
        with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
            stored = set(weights.keys())
        with warnings.catch_warnings(action="ignore"):  # of missing tensors, which are refused below
            adapted = PeftModel.from_pretrained(model, str(folder), torch_device="cpu", local_files_only=True)
        needed = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        if wrong := sorted(stored ^ needed):
            raise InputError(f"{where}: an adapter of another base: {wrong[0]} ({len(wrong)} tensors in all)")
        return adapted.merge_and_unload(safe_merge=True)
    except InputError:
        raise
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: no LoRA adapter of this model, in safetensors: {reason}") from None
