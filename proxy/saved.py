"""An alignment on disk: what it has trained so far, and the best of it. Each folder is replaced whole or not at all.

    <run>/proxy/align/last/    what a killed alignment resumes from: trained.safetensors, adamw.safetensors, about.json
    <run>/proxy/align/best/    what proxies are made with: trained.safetensors, about.json, and with LoRA adapter/,
                               the adapters once more in PEFT's own form, for other programs

`trained.safetensors` holds the trained parameters by name; all others are the encoder's own weights.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from proxy.model import Aligner
from recsys.errors import InputError
from recsys.files import replacing

LAST, BEST = "last", "best"
_TRAINED, _ADAMW, _ABOUT = "trained.safetensors", "adamw.safetensors", "about.json"


@dataclass(frozen=True)
class Progress:
    """Where an alignment stands after `epoch` epochs and `step` steps; `worse` epochs since the best.

    `of` is what it is an alignment of: encoder, settings, dataset, tables. `metrics` are of the left-out items.
    """

    of: dict[str, Any]
    epoch: int = 0
    step: int = 0
    best: float = -1.0
    worse: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def save(folder: Path, model: Aligner, progress: Progress, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Replace `folder` by the model's trained parameters, and with an optimizer all that a resume needs."""
    trained = model.trained()
    with replacing(folder) as temporary:
        temporary.mkdir()
        save_file(
            {name: parameter.detach().cpu().contiguous() for name, parameter in trained.items()}, temporary / _TRAINED
        )
        if optimizer:
            moments = {
                f"{name}/{key}": value.cpu().contiguous()
                for name, parameter in trained.items()
                for key, value in optimizer.state[parameter].items()
            }
            save_file(moments, temporary / _ADAMW)
        else:
            _save_adapter(model.encoder, temporary / "adapter")
        (temporary / _ABOUT).write_text(json.dumps(asdict(progress), indent=1) + "\n")


def load(folder: Path, model: Aligner, optimizer: torch.optim.Optimizer | None = None) -> Progress:
    """Put what `save` wrote into the model, and into the optimizer if one is given.

    Raises:
        InputError: not a whole alignment, or one of another encoder or another width of IDs; nothing is loaded.
    """
    trained = model.trained()
    stored = _read(folder / _TRAINED)
    if wrong := _mismatch({name: tuple(p.shape) for name, p in trained.items()}, stored):
        raise InputError(f"{folder / _TRAINED}: made for another encoder or another width of the ID space: {wrong}")
    moments = _read(folder / _ADAMW) if optimizer else {}
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(stored[name])
    if optimizer:
        for name, parameter in trained.items():
            found = {
                key.removeprefix(f"{name}/"): value for key, value in moments.items() if key.startswith(f"{name}/")
            }
            # AdamW counts its steps on the CPU.
            optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in found.items()}
    return about(folder)


def about(folder: Path) -> Progress:
    """How far the alignment in a folder is, and of what.

    Raises:
        InputError: there is none.
    """
    try:
        return Progress(**json.loads((folder / _ABOUT).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / _ABOUT}: expected what tools.align writes: {error}") from None


def _save_adapter(encoder: nn.Module, folder: Path) -> None:
    adapted: Any = next((module for module in encoder.modules() if hasattr(module, "peft_config")), None)
    if adapted is None:
        return
    from peft import get_peft_model_state_dict  # takes seconds to import, and not every encoder has adapters

    # PEFT names parameters as they are in the model that it wraps around the base.
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    named = {f"base_model.model.{name}": weight.cpu().contiguous() for name, weight in weights.items()}
    folder.mkdir()
    adapted.peft_config["default"].save_pretrained(folder)
    save_file(named, folder / "adapter_model.safetensors")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: expected what tools.align writes: {error}") from None


def _mismatch(expected: dict[str, tuple[int, ...]], stored: dict[str, Tensor]) -> str | None:
    for name in sorted(expected.keys() | stored.keys()):
        found = tuple(stored[name].shape) if name in stored else None
        if found != expected.get(name):
            return f"{name}: expected {expected.get(name, 'no such tensor')}, found {found or 'none'}"
    return None
