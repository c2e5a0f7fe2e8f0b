"""The encoder as it was when a folder of item vectors was made, kept beside them: what new items are encoded with.

    <vectors>/encoder/       the aligned encoder, as `proxy.saved` keeps the best one
    <vectors>/about.json     its settings, the width D, the groups of layers, and a checksum of its weights

The folder needs no more of the run that it was made in: that may be aligned anew, moved or gone. The encoder's base
weights are still the pretrained ones that its settings name.

Legend: B items of a batch, L layers, H encoder width, D ID width, k groups.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor
from torch.nn.functional import normalize

from proxy import encoder, saved
from proxy.content import Content
from proxy.model import Aligner, by_length
from proxy.saved import Progress
from proxy.store import CONTENT
from recsys.config import Config
from recsys.config_proxy import Align, ContentEncoder, Proxy
from recsys.config_types import STRICT, Natural, Positive
from recsys.errors import InputError
from recsys.tables import manifest

COARSE, LAYERS = "coarse.parquet", "layers.parquet"
_ENCODER, _ABOUT, _WEIGHTS = "encoder", "about.json", "encoder/trained.safetensors"
Group = Annotated[list[Natural], Field(min_length=1)]
S = TypeVar("S")
T = TypeVar("T")


@pydantic_dataclass(frozen=True, config=STRICT)
class _About:
    """What vectors were made by."""

    groups: Annotated[list[Group], Field(min_length=1)]
    dim: Positive
    encoder: ContentEncoder
    align: Align
    weights: manifest.Stamp


_JSON = TypeAdapter(_About)


@dataclass(frozen=True, eq=False)
class Kept:
    """An aligned encoder that will not be trained any more, its adapters merged.

    Attributes:
        options: how it reads content.
        groups: its layers, shallow to deep.
    """

    model: Aligner
    options: ContentEncoder
    groups: list[list[int]]

    @torch.inference_mode()
    def encode(self, content: Content) -> tuple[Tensor, Tensor]:
        """p_coarse [n, D] and the groups' z side by side [n, k H] of n items with content; float32, on the CPU."""
        coarse = torch.empty(len(content), self.model.dim)
        layers = torch.empty(len(content), len(self.groups) * self.model.encoder.width)
        for some, states in pooled(self.model, content, self.options.batch_size):
            coarse[some] = normalize(self.model.phi(states[:, -1])).cpu()
            layers[some] = grouped(states, self.groups).cpu()
        return coarse, layers


def keep(folder: Path, model: Aligner, progress: Progress) -> None:
    """Store an aligned encoder in a folder of vectors; before its adapters are merged."""
    saved.save(folder / _ENCODER, model, progress)


def tell(folder: Path, options: Proxy, dim: int, groups: list[list[int]]) -> None:
    """Write what the folder's vectors are made by; the encoder is there."""
    about = _About(groups, dim, options.encoder, options.align, manifest.stamp(folder / _WEIGHTS))
    (folder / _ABOUT).write_bytes(_JSON.dump_json(about, indent=1))


def same(one: Path, other: Path) -> bool:
    """Whether two folders of vectors are of the same encoder and groups."""

    try:
        a, b = _about(one), _about(other)
    except InputError:
        return False
    return (a.groups, a.weights, a.encoder.run_like(b.encoder)) == (b.groups, b.weights, b.encoder)


def told_by(folder: Path, options: Proxy) -> bool:
    """Whether these settings may give the encoder and the number of groups that a folder of vectors is of."""
    try:
        about = _about(folder)
    except InputError:
        return False
    return (len(about.groups), about.encoder.run_like(options.encoder)) == (options.groups, options.encoder)


def folder_of(config: Config) -> Path:
    """Where the vectors are that the config's ranker reads, with the encoder that made them.

    Raises:
        InputError: it reads none, or not those of `tools.align`.
    """
    slot = config.model.proxy
    if slot.place == "none" or slot.coarse is None:
        raise InputError("model.proxy.place: none: this ranker reads no proxies: expected feature or slot")
    folder = Path(slot.coarse).parent
    for key, path, name in (("coarse", slot.coarse, COARSE), ("layers", slot.layers, LAYERS)):
        if path is not None and Path(path).resolve() != (folder / name).resolve():
            raise InputError(f"model.proxy.{key}: {path}: expected {folder / name}, as tools.align writes it")
        if path is not None and not Path(path).exists():
            raise InputError(f"model.proxy.{key}: {path}: no such file: run tools.align on the run it is to come from")
    for beside in (_WEIGHTS, CONTENT):
        if not (folder / beside).exists():
            raise InputError(
                f"model.proxy.coarse: {slot.coarse}: no {beside} lies beside it: expected vectors as tools.align "
                "writes them; others cannot be made of new items"
            )
    return folder


def load(config: Config, device: torch.device) -> Kept:
    """The encoder of the vectors that the config's ranker reads. Of `proxy.encoder` only batch_size, cache and
    checkpointing are the config's: how content is read was settled when the vectors were made.

    Raises:
        InputError: as `folder_of`; the folder is damaged, or the pretrained weights are not there.
    """
    folder = folder_of(config)
    told = _about(folder)
    options = told.encoder.run_like(config.proxy.encoder)
    manifest.check_bytes(folder, {_WEIGHTS: told.weights}, [_WEIGHTS])
    model = Aligner(encoder.load(options), told.dim, told.align)
    deepest, depth = max(layer for group in told.groups for layer in group), model.encoder.depth
    if deepest >= depth:
        raise InputError(f"{folder / _ABOUT}: names layer {deepest}, but {options.name} has {depth} layers")
    saved.load(folder / _ENCODER, model)
    model.encoder.merge()
    return Kept(model.to(device).eval(), options, told.groups)


def _about(folder: Path) -> "_About":
    try:
        return _JSON.validate_json((folder / _ABOUT).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / _ABOUT}: expected what tools.align writes: {error!r}") from None


@torch.inference_mode()
def pooled(model: Aligner, content: Content, batch_size: int) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Positions [B] of items with content, and z = g(H) of every layer [B, L, H] float32 on the model's device; items
    of about one length at a time. The next batch is collated while this one is encoded."""

    def collate(some: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[str, Tensor]]:
        return some, model.encoder.collate(content.take(some))

    for some, inputs in ahead(collate, by_length(content, np.arange(len(content)), batch_size)):
        states = model.encoder(inputs, layers=True)
        yield some, model.pool.every(states.layers, states.mask)


def grouped(states: Tensor, groups: list[list[int]]) -> Tensor:
    """[B, L, H] -> [B, k H]: of each group the mean of its layers, each of root mean square 1.

    Layers differ in scale by orders of magnitude, and some would not fit the half precision that they are kept in.
    """
    even = normalize(states, dim=2) * states.shape[2] ** 0.5
    return torch.cat([even[:, each].mean(1) for each in groups], dim=1)


def ahead(make: Callable[[S], T], of: Sequence[S]) -> Iterator[T]:
    """`make` of each in order; while the caller uses one, the next is made in a thread."""
    if len(of) < 2:
        yield from map(make, of)
        return
    with ThreadPoolExecutor(1) as thread:
        coming: Future[T] | None = None
        for each in of:
            here, coming = coming, thread.submit(make, each)
            if here:
                yield here.result()
        if coming:
            yield coming.result()
