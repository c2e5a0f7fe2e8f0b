"""What the ranker reads of an item's content: coarse proxies and layer states, as files of frozen vectors.

    <run>/proxy/vectors/coarse.parquet     item_id, vector [D]: p_coarse = h (section 3.1.3)
    <run>/proxy/vectors/layers.parquet     item_id, vector [k H]: z of each group of layers, side by side (3.2.1)
    <run>/proxy/vectors/content.parquet    item_id, digest: of the content that either was made from
    <run>/proxy/vectors/encoder/           what makes them of new items, with about.json (`proxy.kept`)
    <run>/proxy/vectors/generated/         and has made of such (`proxy.store`)

`model.proxy.coarse` and `model.proxy.layers` name such files. Items without any content are in none of them. The
vectors of an item whose ID was learned from come from the alignment without its fold.

Legend: D ID width, H encoder width, L layers, k groups.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from proxy import align, kept, saved, store
from proxy.content import Content
from proxy.content import read as read_content
from proxy.files import Files
from proxy.groups import group
from proxy.kept import Kept, pooled
from proxy.model import Aligner
from proxy.targets import Targets, drawn
from proxy.targets import read as read_targets
from recsys.config import Config
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.files import replacing


def folder_of(config: Config) -> Path:
    """Where a run's item vectors are."""
    return Path(config.run) / "proxy" / "vectors"


def write(config: Config, ranks: Ranks) -> Path:
    """Write the vectors of every item of the dataset that has content, all files or none; on one process.

    Vectors of new items stay: they are of the same encoder.

    Raises:
        InputError: as `require_replaceable`, the run has no alignment, or fewer layers than groups.
    """
    folder, options, targets = folder_of(config), config.proxy, read_targets(config)
    model = align.aligned(config, targets.vectors.shape[1]).to(ranks.device)
    with store.changing(folder), replacing(folder) as partial, Files(partial) as files:
        kept.keep(partial, model, saved.about(align.folder_of(config) / saved.BEST))
        model.encoder.merge()
        states = _sample(model, config, targets)
        groups = group(states.numpy(), options.groups, options.align.seed)
        kept.tell(partial, options, model.dim, groups)
        generated = store.folder_of(folder)
        if generated.exists() and not kept.same(folder, partial):
            raise _held(folder)
        for fold in options.align.every_fold:
            if fold is not None:
                model = align.aligned(config, model.dim, fold).to(ranks.device)
                model.encoder.merge()
            _write(Kept(model, options.encoder, groups), config, targets, fold, files)
        if generated.exists():
            shutil.copytree(generated, store.folder_of(partial), copy_function=os.link)
    return folder


def require_replaceable(config: Config) -> None:
    """Refuse a run whose settings give another encoder than the one that has generated items in the run's folder.

    What only an alignment can tell is refused by `write`.

    Raises:
        InputError: they do.
    """
    folder = folder_of(config)
    if store.folder_of(folder).exists() and not kept.told_by(folder, config.proxy):
        raise _held(folder)


def _held(folder: Path) -> InputError:
    items = store.count(folder)
    return InputError(
        f"{store.folder_of(folder)}: holds {items} generated items of another encoder or other groups of layers: where "
        f"a ranker still reads {folder}, align in a copy of the run that is without it; else move it away; then give "
        "these items to tools.align generate again"
    )


def _write(encoder: Kept, config: Config, targets: Targets, fold: int | None, files: Files) -> None:
    """The vectors of the items of one fold, or of all those in none."""
    bar = tqdm(desc="item vectors" if fold is None else f"item vectors, fold {fold}", unit="item", disable=None)
    for content in _told(config, lambda ids: targets.folds_of(ids) == (-1 if fold is None else fold)):
        coarse, layers = encoder.encode(content)
        files.write(content.ids, {"coarse": coarse.numpy(), "layers": layers.numpy()})
        digests = pa.array(content.digests, pa.binary(16))
        files.append("content", pa.table({"item_id": content.ids.cast(targets.ids.type), "digest": digests}))
        bar.update(len(content))
    bar.close()


def _told(config: Config, keep: Callable[[pa.Array], NDArray[np.bool_]] | None = None) -> Iterator[Content]:
    """The items of the dataset that have any content, of those that `keep` wants."""
    for content in read_content(Path(config.data.path), config.proxy.encoder, keep=keep):
        yield content.take(np.flatnonzero(~content.empty))


def _sample(model: Aligner, config: Config, targets: Targets) -> Tensor:
    """[n, L, H] z of every layer of some targets with content, on the CPU; new items have no say in the groups."""
    size, order = config.proxy.sample, drawn(targets.ids, config.proxy.align)
    parts: list[Content] = []
    for start in range(0, len(order), size):
        parts += _told(config, targets.take(order[start : start + size]).has)
        if sum(map(len, parts)) >= size:
            break
    content = Content.concat(parts)
    content = content.take(np.arange(min(len(content), size)))
    return torch.cat([states.cpu() for _, states in pooled(model, content, config.proxy.encoder.batch_size)])
