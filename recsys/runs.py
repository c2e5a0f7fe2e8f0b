"""A run folder belongs to one config and one dataset: what may not change between a start and a resume."""

from pathlib import Path
from typing import Any

from recsys import settings
from recsys.config import Config
from recsys.data.schema import MANIFEST, read_info, write_info
from recsys.errors import InputError

_FREE = {"run", "evaluate", "train.batch_size", "train.shuffle_rows", "train.keep"}
"""Keys that a resumed run may change; `data.source` may too, since the dataset's fingerprint stands for it."""


def begin(config: Config) -> None:
    """Write the resolved config and the dataset's manifest into the run folder, or compare with those already there.

    Raises:
        InputError: the run was begun with another config (the first differing key is named) or another dataset.
    """
    run, dataset = Path(config.run), read_info(config.data.path)
    if (run / "config.yaml").exists():
        began = _flat(settings.plain(settings.load(run / "config.yaml")))
        now = _flat(settings.plain(config))
        for key in sorted(began.keys() | now.keys()):
            free = key in _FREE or key.split(".")[0] in _FREE or key.startswith("data.source.")
            if not free and began.get(key) != now.get(key):
                raise InputError(
                    f"{run}: this run was begun with {key}={began.get(key)}, not {now.get(key)}: "
                    "give another run=..., or remove the folder"
                )
    if (run / MANIFEST).exists() and read_info(run).fingerprint != dataset.fingerprint:
        raise InputError(f"{run}: this run was begun on another dataset: give another run=..., or remove the folder")
    settings.dump(config, run / "config.yaml")
    write_info(dataset, run)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, dict | list):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
