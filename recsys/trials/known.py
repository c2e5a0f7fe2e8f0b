"""What of a config a trained ranker depends on: what its trials are known by, in every search alike."""

from dataclasses import asdict
from typing import Any

from recsys import settings
from recsys.config import Config
from recsys.data.parquet import stamp
from recsys.data.schema import read_info
from recsys.storage import at

_SAME = ("keep", "timeout", "profile")
"""Keys of `train` that no result depends on."""


def of_dataset(config: Config) -> dict[str, Any]:
    """Where the rows are, which they are, and how much of them is read."""
    data = config.data
    return {"data": data.path, "history": data.history, "dataset": asdict(read_info(data.path))}


def of_ranker(config: Config, ranks: int) -> dict[str, Any]:
    """All that the ranker's training depends on; `ranks` change the rows of a step."""
    tree = settings.plain(config)
    about = {key: tree[key] for key in ("features", "item_capacity", "model")}
    about["train"] = {key: value for key, value in tree["train"].items() if key not in _SAME}
    proxy = config.model.proxy
    files = of_file(proxy.coarse), of_file(proxy.layers)
    return {**about, **of_dataset(config), "files": files, "ranks": ranks}


def of_file(path: str | None) -> Any:
    """Another for a file that has been written since; None where there is none."""
    try:
        return None if path is None else stamp(at(path))
    except OSError:
        return None
