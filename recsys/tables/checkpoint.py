"""Checkpoints of a sharded run by `torch.distributed.checkpoint`: saved by W ranks, loaded by any number, atomically.

    <run>/checkpoints/step-00000400/   DCP files and progress.json

A checkpoint is written under a temporary name and renamed by rank 0 once every rank has finished: a folder with the
final name is whole. Which one is the best by validation AUC is told by their progress files alone, so that no crash can
leave a pointer behind.
"""

import json
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from recsys.errors import InputError
from recsys.tables.sharding import Sharded

_PARTIAL = ".partial"


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `step` steps in all, `epoch_step` of `epoch_steps` in `epoch`; `worse` since the best."""

    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    epoch_steps: int = 0
    best_auc: float = -1.0
    worse: int = 0
    done: bool = False


def save(folder: Path, sharded: Sharded, progress: Progress, keep: int) -> Path:
    """Save model, optimizer and progress; drop all but the last `keep` and the best. Collective over all ranks."""
    path = folder / f"step-{progress.step:08d}"
    partial = path.with_suffix(_PARTIAL)
    first = dist.get_rank() == 0
    if first:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    dcp.save(_state(sharded), checkpoint_id=partial)
    if first:
        (partial / "progress.json").write_text(json.dumps(asdict(progress)))
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        _prune(folder, keep)
    dist.barrier()
    return path


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    whole = _whole(folder)
    return whole[-1] if whole else None


def best(folder: Path) -> Path:
    """The checkpoint with the best validation AUC: the newest that no validation before it had beaten.

    Raises:
        InputError: there is none.
    """
    for path in reversed(_whole(folder)):
        if progress_of(path).worse == 0:
            return path
    raise InputError(f"{folder}: no trained checkpoint: run tools.train first")


def load(path: Path, sharded: Sharded, optimizer: bool = True) -> Progress:
    """Load a checkpoint into a sharded model, whatever ranks and sharding it was saved under. Collective.

    Raises:
        InputError: it belongs to another model; the first differing tensor is named.
    """
    if optimizer:
        # Adam's state is created by its first step; without it DCP would load nothing into it and say nothing.
        sharded.dense_optimizer.init_state()
    state = _state(sharded, optimizer)
    _compare(path, state["model"])
    dcp.load(state, checkpoint_id=path)
    sharded.model.load_state_dict(state["model"])
    if optimizer:
        sharded.optimizer.load_state_dict(state["optimizer"])
    return progress_of(path)


def progress_of(path: Path) -> Progress:
    """Where the run stood when the checkpoint was saved."""
    return Progress(**json.loads((path / "progress.json").read_text()))


def stored_tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every model tensor in a checkpoint.

    Raises:
        InputError: not a whole checkpoint.
    """
    try:
        metadata = dcp.FileSystemReader(path).read_metadata()
    except Exception as error:  # DCP raises what its storage raises
        raise InputError(f"{path}: not a whole checkpoint: {error}") from None
    return {
        name.removeprefix("model."): tuple(entry.size)
        for name, entry in metadata.state_dict_metadata.items()
        if name.startswith("model.") and isinstance(entry, TensorStorageMetadata)
    }


def read(path: Path, names: list[str]) -> dict[str, Tensor]:
    """Whole tensors of the model in a checkpoint, in memory; no process group takes part.

    Raises:
        InputError: not a whole checkpoint, or it has no such tensor.
    """
    stored = stored_tensors(path)
    missing = [name for name in names if name not in stored]
    if missing:
        raise InputError(f"{path}: checkpoint of another model: it has no tensor {missing[0]}")
    state = {f"model.{name}": torch.empty(stored[name]) for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.load(state, checkpoint_id=path, no_dist=True)
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def _state(sharded: Sharded, optimizer: bool = True) -> dict[str, Any]:
    state = {"model": sharded.model.state_dict()}
    if optimizer:
        state["optimizer"] = sharded.optimizer.state_dict()
    return state


def _compare(path: Path, model: dict[str, Tensor]) -> None:
    stored = stored_tensors(path)
    for name, tensor in model.items():
        if name not in stored:
            raise InputError(f"{path}: checkpoint of another model: it has no tensor {name} {tuple(tensor.size())}")
        if stored[name] != tuple(tensor.size()):
            raise InputError(
                f"{path}: checkpoint of another model: tensor {name} is {stored[name]}, expected {tuple(tensor.size())}"
            )
    extra = sorted(stored.keys() - model.keys())
    if extra:
        raise InputError(f"{path}: checkpoint of another model: its tensor {extra[0]} is not in this model")


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix != _PARTIAL)


def _prune(folder: Path, keep: int) -> None:
    kept = {best(folder), *_whole(folder)[-keep:]} if keep else {best(folder)}
    for path in _whole(folder):
        if path not in kept:
            shutil.rmtree(path)
