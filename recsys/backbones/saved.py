"""The checkpoint of a backbone's training: one folder, replaced whole after each epoch.

state.safetensors    weights, Adam's moments, and the best epoch's weights
manifest.json        the digest of what was learned from, the settings, the validation of each epoch, the checksum
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.config import Config
from recsys.config_backbone import Backbone
from recsys.errors import InputError
from recsys.files import replacing, sweep
from recsys.tables import manifest

_FORMAT = manifest.Format("thawrec-backbone", 1, "expected a checkpoint of tools.backbone")
_STATE = "state.safetensors"
_FREE = ("epochs", "patience", "cold_scales")
"""Settings that may change between a start and a resume."""
_HISTORY = TypeAdapter(list[float])


@dataclass
class Training:
    """A backbone under training, after `len(history)` epochs."""

    model: nn.Module
    adam: torch.optim.Adam
    best: dict[str, Tensor]
    """The weights after the epoch of the highest validation."""
    history: list[float]
    """What validation said after each epoch; more is better."""

    @property
    def waited(self) -> int:
        """Epochs since the best one, the earliest of equals."""
        return len(self.history) - 1 - self.history.index(max(self.history)) if self.history else 0


def folder_of(config: Config) -> Path:
    """Where the config's backbone is kept."""
    return Path(config.run) / "backbone" / config.backbone.kind


def fresh(model: nn.Module, options: Backbone) -> Training:
    """Before the first epoch."""
    return Training(model, torch.optim.Adam(model.parameters(), options.lr), model.state_dict(), [])


def restore(config: Config, model: nn.Module, digest: str) -> None:
    """Give a fresh model of the config's kind the weights of the best epoch; `digest` as `save` was told.

    Raises:
        InputError: it was not trained, or its checkpoint is damaged or of another training.
    """
    folder, training = folder_of(config) / "checkpoint", fresh(model, config.backbone)
    load(folder, training, config.backbone, digest)
    if not training.history:
        raise InputError(f"{folder}: no checkpoint: train the backbone first, with tools.backbone")
    model.load_state_dict(training.best)


def save(folder: Path, training: Training, options: Backbone, digest: str) -> None:
    """Replace the checkpoint; `digest` is of what it learns from."""
    moments = {
        f"adam.{number}.{name}": value
        for number, values in training.adam.state_dict()["state"].items()
        for name, value in values.items()
    }
    tensors = {
        **{f"model.{name}": value for name, value in training.model.state_dict().items()},
        **{f"best.{name}": value for name, value in training.best.items()},
        **moments,
    }
    with replacing(folder) as partial:
        partial.mkdir()
        # The best weights may be the present ones: a file of tensors holds no memory twice.
        save_file({name: value.detach().cpu().clone() for name, value in tensors.items()}, partial / _STATE)
        told = {"graph": digest, "options": asdict(options), "history": training.history}
        manifest.write(partial, _FORMAT, {_STATE: manifest.stamp(partial / _STATE)}, **told)


def load(folder: Path, training: Training, options: Backbone, digest: str) -> None:
    """Bring a fresh training to where the checkpoint was saved; nothing where there is none.

    Raises:
        InputError: the checkpoint is damaged, or was begun with other settings or on another graph.
    """
    sweep(folder.parent)
    if not folder.exists():
        return
    body = manifest.verify(folder, _FORMAT)
    _require_same(folder, body.get("options"), options, body.get("graph") == digest)
    try:
        training.history = _HISTORY.validate_python(body.get("history"))
        tensors = load_file(folder / _STATE)
        training.model.load_state_dict(_below(tensors, "model."))
        training.best = _below(tensors, "best.")
        _load_adam(training.adam, _below(tensors, "adam."))
    except (ValidationError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: damaged: not this backbone's checkpoint: {error}") from None


def _require_same(folder: Path, began: object, options: Backbone, same_graph: bool) -> None:
    if not isinstance(began, dict):
        raise InputError(f"{folder}: damaged: it names no settings")
    for key, value in asdict(options).items():
        # A setting that did not exist when it began does not concern its kind.
        if key not in _FREE and began.get(key, value) != value:
            raise InputError(
                f"{folder}: begun with backbone.{key}={began.get(key)}, not {value}: give another run=..., or remove "
                "the folder"
            )
    if not same_graph:
        raise InputError(f"{folder}: begun on other training rows: give another run=..., or remove the folder")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _load_adam(adam: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    adam.load_state_dict({**adam.state_dict(), "state": state})
