"""The checkpoint of a training that `recsys.backbones.loop` runs: one folder, replaced whole after each epoch.

state.safetensors    weights, the optimizers' state, and the best epoch's weights
manifest.json        the digest of what was learned from, the settings, the validation of each epoch, the checksum
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.config import Config
from recsys.config_backbone import Backbone
from recsys.errors import InputError
from recsys.files import replacing, sweep
from recsys.settings import bound
from recsys.tables import manifest

_STATE = "state.safetensors"
_FREE = ("epochs", "patience", "cold_scales")
"""Settings of a backbone that may change between a start and a resume."""
_HISTORY = TypeAdapter(list[float])


@dataclass(frozen=True)
class Terms:
    """What a training was begun with, and has to be resumed with."""

    section: str
    """Of the config: `backbone`."""
    settings: Mapping[str, Any]
    """Plain values by their keys in it."""
    digest: str
    """SHA-256 of what it learns from."""

    @classmethod
    def of(cls, options: Backbone, digest: str) -> "Terms":
        """A backbone's."""
        return cls("backbone", bound(options, _FREE), digest)

    @property
    def format(self) -> manifest.Format:
        """Of the folder."""
        return manifest.Format(f"thawrec-{self.section}", 1, f"expected the checkpoint of a {self.section}")


@dataclass
class Training:
    """A model under training, after `len(history)` epochs."""

    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    """By name; together they step all parameters that learn."""
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
    return Training(model, {"adam": torch.optim.Adam(model.parameters(), options.lr)}, model.state_dict(), [])


def restore(config: Config, model: nn.Module, digest: str) -> None:
    """Give a fresh model of the config's kind the weights of the best epoch; `digest` as `save` was told.

    Raises:
        InputError: it was not trained, or its checkpoint is damaged or of another training.
    """
    folder, training = folder_of(config) / "checkpoint", fresh(model, config.backbone)
    load(folder, training, Terms.of(config.backbone, digest))
    if not training.history:
        raise InputError(f"{folder}: no checkpoint: train the backbone first, with tools.backbone")
    model.load_state_dict(training.best)


def save(folder: Path, training: Training, terms: Terms) -> None:
    """Replace the checkpoint."""
    moments = {
        f"{kind}.{number}.{name}": value
        for kind, optimizer in training.optimizers.items()
        for number, values in optimizer.state_dict()["state"].items()
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
        told = {"graph": terms.digest, "options": dict(terms.settings), "history": training.history}
        manifest.write(partial, terms.format, {_STATE: manifest.stamp(partial / _STATE)}, **told)


def load(folder: Path, training: Training, terms: Terms) -> None:
    """Bring a fresh training to where the checkpoint was saved; nothing where there is none.

    Raises:
        InputError: the checkpoint is damaged, or was begun on other terms.
    """
    sweep(folder.parent)
    if not folder.exists():
        return
    body = manifest.verify(folder, terms.format)
    _require_same(folder, body.get("options"), terms, body.get("graph") == terms.digest)
    try:
        training.history = _HISTORY.validate_python(body.get("history"))
        tensors = load_file(folder / _STATE)
        training.model.load_state_dict(_below(tensors, "model."))
        training.best = _below(tensors, "best.")
        for kind, optimizer in training.optimizers.items():
            _load_optimizer(optimizer, _below(tensors, f"{kind}."))
    except (ValidationError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: damaged: not this training's checkpoint: {error}") from None


def _require_same(folder: Path, began: object, terms: Terms, same_graph: bool) -> None:
    if not isinstance(began, dict):
        raise InputError(f"{folder}: damaged: it names no settings")
    for key, value in terms.settings.items():
        # A setting that did not exist when it began does not concern its kind.
        if began.get(key, value) != value:
            raise InputError(
                f"{folder}: begun with {terms.section}.{key}={began.get(key)}, not {value}: give another run=..., or "
                "remove the folder"
            )
    if not same_graph:
        raise InputError(f"{folder}: begun on other training rows: give another run=..., or remove the folder")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
