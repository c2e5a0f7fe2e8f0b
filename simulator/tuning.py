"""A tuning on disk: what it is a tuning of, and the checkpoint that a killed one resumes from.

    state.safetensors    the adapter's parameters and AdamW's moments, by name
    manifest.json        settings, the loss of each step, checksums

The folder is replaced whole or not at all.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import Parameter

from recsys.config import Config
from recsys.data.schema import read_info
from recsys.errors import InputError
from recsys.files import replacing
from recsys.settings import bound
from recsys.tables import manifest

ABOUT = "about.json"
"""In an adapter's folder: what it is of, its steps, and its loss over the last of them."""
_FORMAT = manifest.Format("thawrec-tuning", 1, "expected a checkpoint of the judge's tuning")
_STATE = "state.safetensors"
_FREE = ("checkpoint_every",)
_READ = ("bf16", "name")
_LOSSES = TypeAdapter(list[float])
_RECENT = 50

Named = dict[str, Parameter]


@dataclass(frozen=True)
class Progress:
    """Where a tuning stands.

    Attributes:
        of: its identity.
        losses: of each step so far.
    """

    of: dict[str, Any]
    losses: tuple[float, ...] = field(default=())

    @property
    def step(self) -> int:
        """Steps taken."""
        return len(self.losses)

    @property
    def recent(self) -> float:
        """Mean loss of the last steps, 50 at most."""
        last = self.losses[-_RECENT:]
        return sum(last) / max(len(last), 1)

    def after(self, loss: float) -> "Progress":
        """One step on."""
        return replace(self, losses=(*self.losses, loss))


def identity(config: Config) -> dict[str, Any]:
    """What a tuning is of: with anything else of it another, it is another one.

    Raises:
        InputError: no such dataset, or no adapter to start from.
    """
    asked = config.simulator
    told = bound(asked.tune, (*_FREE, "start"), "simulator.tune.") | bound(asked.prompt, prefix="simulator.prompt.")
    told |= {f"simulator.judge.{k}": getattr(asked.judge, k) for k in _READ}
    start = None
    if asked.tune.start is not None:
        weights = Path(asked.tune.start) / "adapter_model.safetensors"
        if not weights.is_file():
            raise InputError(f"simulator.tune.start: {asked.tune.start}: expected an adapter_model.safetensors in it")
        start = manifest.stamp(weights)["sha256"]
    return {**told, "simulator.tune.start": start, "dataset": read_info(config.data.path).fingerprint}


def require(folder: Path, expected: dict[str, Any]) -> None:
    """Refuse an adapter that was tuned otherwise.

    Raises:
        InputError: it was, or nobody knows how.
    """
    try:
        found = json.loads((folder / ABOUT).read_text())["of"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / ABOUT}: expected what the judge's tuning writes: {error}") from None
    _same(folder, found, expected)


def save(folder: Path, trained: Named, adamw: torch.optim.AdamW, progress: Progress) -> None:
    """Replace the checkpoint."""
    tensors = {name: parameter.detach() for name, parameter in trained.items()}
    for name, parameter in trained.items():
        tensors |= {f"{name}/{key}": value for key, value in adamw.state[parameter].items()}
    with replacing(folder) as partial:
        partial.mkdir()
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, partial / _STATE)
        told = {"of": progress.of, "losses": progress.losses}
        manifest.write(partial, _FORMAT, {_STATE: manifest.stamp(partial / _STATE)}, **told)


def load(folder: Path, trained: Named, adamw: torch.optim.AdamW, begun: Progress) -> Progress:
    """Bring a fresh tuning to where the checkpoint was saved; where there is none it stays at its beginning.

    Raises:
        InputError: the checkpoint is damaged, or of another tuning.
    """
    if not folder.exists():
        return begun
    body = manifest.verify(folder, _FORMAT)
    _same(folder, body.get("of"), begun.of)
    try:
        losses = _LOSSES.validate_python(body.get("losses"))
        stored = load_file(folder / _STATE)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(stored[name])
                adamw.state[parameter] = {
                    # AdamW counts its steps on the CPU.
                    key: value if key == "step" else value.to(parameter.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    for value in [stored[f"{name}/{key}"]]
                }
    except (ValidationError, SafetensorError, RuntimeError, KeyError) as error:
        raise InputError(f"{folder}: damaged: not this tuning's checkpoint: {error}") from None
    return Progress(begun.of, tuple(losses))


def _same(folder: Path, found: Any, expected: dict[str, Any]) -> None:
    for key, now in expected.items():
        before = found.get(key) if isinstance(found, dict) else None
        if before != now:
            raise InputError(
                f"{folder}: this tuning was begun with {key}={before}, not {now}: give another run=..., or remove the "
                "folder"
            )
