"""The online store that a config names."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from recsys.config_serving import Store as Options
from recsys.serving.file_store import FileStore
from recsys.serving.redis_store import RedisStore
from recsys.serving.store import Store
from recsys.tables.version import Version


def open_store(options: Options, beside: Path, base: Version, types: Mapping[str, pa.DataType]) -> Store:
    """The store of a bundle's training run and step; others have stores of their own in the same place.

    Args:
        beside: the folder that the default path is in. types: of the ids, by table.

    Raises:
        InputError: the password file cannot be read.
    """
    if options.kind == "redis":
        return RedisStore(options, base, types)
    return FileStore(options, beside, base, types)
