"""A run folder belongs to one config and one dataset: what may not change between a start and a resume."""

from pathlib import Path

from recsys import settings
from recsys.config import Config
from recsys.data.schema import read_info, write_info
from recsys.errors import InputError
from recsys.tables import service

_FREE = {
    "run",
    "evaluate",
    "floor",
    "tables",
    "proxy",
    "backbone",
    "simulator",
    "prompt",
    "daily",
    "lifecycle",
    "serving",
    "search",
    "train.batch_size",
    "train.shuffle_rows",
    "train.keep",
    "train.profile",
    "train.timeout",
}
"""Keys that may change within a run. So may the sharding, since checkpoints reshard, and `data.source`, since the
dataset's fingerprint stands for it."""


def begin(config: Config) -> None:
    """Write the resolved config and the dataset's manifest into the run folder, unless it has others already.

    Raises:
        InputError: as `require`.
    """
    run = Path(config.run)
    if (run / "config.yaml").exists():
        require(config)
    write_info(read_info(config.data.path), run)
    settings.dump(config, run / "config.yaml")


def require(config: Config) -> None:
    """Refuse a run that is not of this config and dataset, before anything is made from it.

    Raises:
        InputError: there is no such run, or it was begun with another config (the first differing key is named) or on
            another dataset.
    """
    run = Path(config.run)
    if not (run / "config.yaml").exists():
        raise InputError(f"{run}: no run there: train first, by tools.train with this config")
    began = settings.flat(settings.plain(settings.load(run / "config.yaml")))
    now = settings.flat(settings.plain(config))
    for key in sorted(began.keys() | now.keys()):
        free = key in _FREE or key.split(".")[0] in _FREE or key.startswith("data.source.") or key.endswith("sharding")
        if not free and began.get(key) != now.get(key):
            raise InputError(
                f"{run}: this run was begun with {key}={began.get(key)}, not {now.get(key)}: "
                "give another run=..., or remove the folder"
            )
    if read_info(run).fingerprint != read_info(config.data.path).fingerprint:
        raise InputError(f"{run}: this run was begun on another dataset: give another run=..., or remove the folder")


def bring_up(config: Config, bundle: bool = True) -> None:
    """Bring a run of this config up to its log of deltas; without its `bundle` where that is about to be replaced.

    Raises:
        InputError: as `require`, or a delta cannot be taken.
    """
    require(config)
    service.catch_up(Path(config.run), config.tables.max_staleness, bundle)
