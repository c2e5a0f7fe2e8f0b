"""A run goes on from its newest checkpoint that is intact. What is not is set aside, and that is said."""

import sys
from contextlib import nullcontext
from pathlib import Path

import torch.distributed as dist
from tqdm import tqdm

from recsys.distributed import Ranks, agree, of_first, on_first
from recsys.files import remove
from recsys.tables import folders, loading
from recsys.tables.folders import Progress
from recsys.tables.locks import changing, reading
from recsys.tables.sharding import Sharded
from recsys.tables.version import Version

_ASIDE = ".damaged"


def resume(run: Path, sharded: Sharded, ranks: Ranks) -> tuple[Progress, Version]:
    """Load the newest checkpoint whose files are those that its manifest tells. Collective.

    Every byte is read once to see that, each rank a share of them. A damaged checkpoint is renamed `<name>.damaged` for
    the user to look at, once an older one has been loaded in its stead.

    Raises:
        InputError: none is intact, and nothing is renamed; or as `recsys.tables.loading.load`; on every rank.
    """
    damaged: list[tuple[Path, str]] = []
    with reading(run) if ranks.is_first else nullcontext():
        for path in of_first(ranks, lambda: folders.found(run / "checkpoints")):
            wrong = loading.damage(path)
            if wrong is None:
                where = loading.load_intact(path, sharded), folders.version_of(path)
                break
            damaged.append((path, wrong))
        else:
            agree(ranks, f"{damaged[0][1]}; no older checkpoint is intact: to begin anew, remove {run}")
        dist.barrier()
    on_first(ranks, lambda: _tell(run, path, damaged))
    return where


def _tell(run: Path, used: Path, damaged: list[tuple[Path, str]]) -> None:
    """Set the damaged ones aside, and say from where instead of which the run goes on."""
    unfinished = sorted(used.parent.glob(f"step-*{folders.PARTIAL}"))
    for path in unfinished:
        tqdm.write(f"{path}: a save that was not finished", file=sys.stderr)
    with changing(run):
        for path, wrong in damaged:
            aside = path.with_name(path.name + _ASIDE)
            remove(aside)
            path.rename(aside)
            tqdm.write(f"{wrong}; set aside as {aside.name}", file=sys.stderr)
    if unfinished or damaged:
        tqdm.write(f"{run}: training goes on from {used.name}", file=sys.stderr)
