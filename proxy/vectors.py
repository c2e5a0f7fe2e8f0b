"""What the ranker reads of an item's content: coarse proxies and layer states, as files of frozen vectors.

    <run>/proxy/vectors/coarse.parquet     item_id, vector [D]: p_coarse = h (section 3.1.3)
    <run>/proxy/vectors/layers.parquet     item_id, vector [k H]: z of each group of layers, side by side (3.2.1)
    <run>/proxy/vectors/about.json         the groups

`model.proxy.coarse` and `model.proxy.layers` name such files. Items without any content are in none of them. The
vectors of an item whose ID was learned from come from the alignment without its fold.

Legend: B items of a batch, L layers, H encoder width, D ID width, k groups.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from proxy.align import aligned
from proxy.content import Content
from proxy.content import read as read_content
from proxy.files import Files
from proxy.groups import group
from proxy.model import Aligner, by_length
from proxy.targets import Targets
from proxy.targets import read as read_targets
from recsys.config import Config
from recsys.distributed import Ranks
from recsys.files import replacing


def folder_of(config: Config) -> Path:
    """Where a run's item vectors are."""
    return Path(config.run) / "proxy" / "vectors"


def write(config: Config, ranks: Ranks) -> Path:
    """Write the vectors of every item of the dataset that has content, all files or none; on one process.

    Raises:
        InputError: the run has no alignment, or fewer layers than groups.
    """
    targets = read_targets(config)
    model = _merged(config, targets, None, ranks)
    dataset, options = Path(config.data.path), config.proxy
    sample = islice(_told(read_content(dataset, options.encoder)), 1 + options.sample // 256)
    states = [pooled(model, content, options.encoder.batch_size)[1] for content in sample]
    groups = group(torch.cat(states)[: options.sample].numpy(), options.groups, options.align.seed)
    with replacing(folder_of(config)) as partial, Files(partial) as files:
        for fold in options.align.every_fold:
            if fold is not None:
                model = _merged(config, targets, fold, ranks)
            bar = tqdm(desc="item vectors" if fold is None else f"item vectors, fold {fold}", unit="item", disable=None)
            for told in _told(read_content(dataset, options.encoder)):
                content = told.take(np.flatnonzero(targets.folds_of(told.ids) == (-1 if fold is None else fold)))
                coarse, layers = pooled(model, content, options.encoder.batch_size)
                files.write(content.ids, {"coarse": coarse.numpy(), "layers": grouped(layers, groups).numpy()})
                bar.update(len(content))
            bar.close()
        (partial / "about.json").write_text(json.dumps({"groups": groups}, indent=1) + "\n")
    return folder_of(config)


@torch.inference_mode()
def pooled(model: Aligner, content: Content, batch_size: int) -> tuple[Tensor, Tensor]:
    """p_coarse [n, D] and z = g(H) of every layer [n, L, H], float32 on the CPU, of n items with content."""
    coarse, layers = torch.empty(len(content), model.dim), torch.empty(len(content), model.encoder.depth, 0)
    for some in by_length(content, np.arange(len(content)), batch_size):
        states = model.encoder(model.encoder.collate(content.take(some)), layers=True)
        every = torch.stack([model.pool(one, states.mask) for one in states.layers], dim=1).float()
        if not layers.shape[2]:
            layers = torch.empty(len(content), *every.shape[1:])
        layers[some] = every.cpu()
        coarse[some] = normalize(model.phi(every[:, -1])).cpu()
    return coarse, layers


def grouped(layers: Tensor, groups: list[list[int]]) -> Tensor:
    """[n, L, H] -> [n, k H]: of each group the mean of its layers, each of root mean square 1.

    Layers differ in scale by orders of magnitude, and some would not fit the half precision that they are kept in.
    """
    even = normalize(layers, dim=2) * layers.shape[2] ** 0.5
    return torch.cat([even[:, each].mean(1) for each in groups], dim=1)


def _told(contents: Iterator[Content]) -> Iterator[Content]:
    """The items that have any content."""
    for content in contents:
        yield content.take(np.flatnonzero(~content.empty))


def _merged(config: Config, targets: Targets, fold: int | None, ranks: Ranks) -> Aligner:
    model = aligned(config, targets.vectors.shape[1], fold).to(ranks.device)
    model.encoder.merge()
    return model
