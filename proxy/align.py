"""Stage 1 of IDProxy: the encoder, its pooling and a projection learn to give an item the ID that the ranker gave it.

    <run>/proxy/align/best        the encoder that makes the proxies of new items
    <run>/proxy/align/fold-<k>    one that has not learned from the items of fold k, and makes theirs

The paper trains the ranker on proxies of the very items whose IDs the encoder has learned from. These are nearer to
their IDs than a new item's can be, and the ranker leans on them more than new items bear: cross-fitting, as in stacked
regression, has every proxy made by an encoder that has not seen its ID.
"""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from proxy import encoder, groups, saved
from proxy.content import Content
from proxy.content import read as read_content
from proxy.loop import Loop, encoder_settings, require, without
from proxy.model import Aligner
from proxy.saved import BEST, Progress
from proxy.targets import Targets
from proxy.targets import read as read_targets
from recsys.config import Config
from recsys.distributed import Ranks, on_first, together
from recsys.errors import InputError
from recsys.files import remove
from recsys.runs import bring_up
from recsys.tables.locks import reading


def folder_of(config: Config, fold: int | None = None) -> Path:
    """Where a run's alignment is kept, or that without a fold."""
    folder = Path(config.run) / "proxy" / "align"
    return folder if fold is None else folder / f"fold-{fold}"


def align(config: Config, ranks: Ranks) -> Progress:
    """Train, and once more without each fold, until the epochs are done or left-out items are found no better; resumes.

    Collective.

    Returns:
        Of the alignment on all folds.

    Raises:
        InputError: no trained run of this config, no item to learn from, fewer layers than groups, an alignment begun
            otherwise, or a loss that is not finite.
    """
    targets, content = learnable(config, ranks)
    kept, found = None, []
    for fold in config.proxy.align.every_fold:
        model = untrained(config, targets.vectors.shape[1]).to(ranks.device)
        groups.require(model.encoder.depth, config.proxy.groups)
        rest, folder = targets.without(fold), folder_of(config, fold)
        loop = Loop(config, model, rest, content, ranks, folder, kept, fold)
        found.append(loop.run())
        kept = loop.kept  # a frozen encoder's states are the same for all
    on_first(ranks, lambda: _drop_other_folds(config))
    return found[0]


def _drop_other_folds(config: Config) -> None:
    """Those of an earlier alignment with more of them."""
    ours = {folder_of(config, fold) for fold in config.proxy.align.every_fold}
    for folder in folder_of(config).glob("fold-*"):
        if folder not in ours:
            remove(folder)


def learnable(config: Config, ranks: Ranks) -> tuple[Targets, Content]:
    """The targets that have any content, and that content, in the same order; all of it in memory. Collective.

    Raises:
        InputError: as `proxy.targets.read` and `proxy.content.read`, no run of this config, or no target has content.
    """
    on_first(ranks, lambda: bring_up(config))
    with reading(Path(config.run)) if ranks.is_first else nullcontext():
        dist.barrier()  # nobody reads before the first rank holds the lock
        return together(lambda: _learnable(config))


def _learnable(config: Config) -> tuple[Targets, Content]:
    targets = read_targets(config)
    parts, places = [], []
    for content in read_content(Path(config.data.path), config.proxy.encoder, keep=targets.has):
        at = targets.find(content.ids)
        kept = np.flatnonzero(~content.empty)
        parts.append(content.take(kept))
        places.append(at[kept])
    place = np.concatenate(places) if places else np.zeros(0, np.int64)
    if not len(place):
        raise InputError(f"{config.data.path}: none of {len(targets.ids)} items with targets has any content")
    targets = targets.take(place)
    targets.require(config.proxy.align)
    return targets, Content.concat(parts)


def untrained(config: Config, dim: int) -> Aligner:
    """The model as stage 1 begins with it, for IDs of width D = `dim`."""
    torch.manual_seed(config.proxy.align.seed)
    return Aligner(encoder.load(config.proxy.encoder), dim, config.proxy.align)


def aligned(config: Config, dim: int, fold: int | None = None) -> Aligner:
    """The best model that stage 1 has found, or found without a fold, in evaluation mode.

    Raises:
        InputError: the run has no alignment, or one of another encoder (or another way to read content with it), or of
            IDs of another width.
    """
    folder = folder_of(config, fold) / BEST
    require(folder, {**encoder_settings(config), **without(config, fold)})
    model = untrained(config, dim)
    saved.load(folder, model)
    return model.eval()
