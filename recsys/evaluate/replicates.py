"""Bootstrap replicates beside a results.json, so that several draws can be judged as one (`recsys.evaluate.draws`).

results.json, results.replicates.parquet     columns system, segment, metric, replicates (list of R float64)
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.evaluate.bootstrap import ends
from recsys.files import replacing

Replicates = dict[str, dict[str, dict[str, NDArray[np.float64]]]]
"""By system, segment and metric: [R]."""

_KEYS = ("system", "segment", "metric")


def beside(path: Path) -> Path:
    """Where the replicates of a results file are."""
    return path.with_suffix(".replicates.parquet")


def save(found: Replicates, path: Path) -> None:
    """Write beside the results file `path`, whole or not at all."""
    rows = [
        (system, segment, metric, values)
        for system, by_segment in found.items()
        for segment, by_metric in by_segment.items()
        for metric, values in by_metric.items()
    ]
    names, values = [[row[k] for row in rows] for k in range(3)], [row[3] for row in rows]
    table = pa.table({**dict(zip(_KEYS, names, strict=True)), "replicates": pa.array(values, pa.list_(pa.float64()))})
    with replacing(beside(path)) as temporary:
        pq.write_table(table, temporary)


def read(path: Path, systems: dict[str, Any]) -> Replicates:
    """What lies beside the results file `path`; empty: nothing does.

    systems: those of the results; replicates of others, or of earlier numbers, are left out.

    Raises:
        InputError: not Parquet, or without the columns.
    """
    if not beside(path).exists():
        return {}
    try:
        rows = pq.read_table(beside(path), columns=[*_KEYS, "replicates"]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{beside(path)}: expected replicates as tools.evaluate writes them: {error}") from None
    found: Replicates = {}
    for row in rows:
        system, segment, metric = (row[key] for key in _KEYS)
        told = systems.get(system, {}).get(segment, {}).get(metric)
        values = np.array(row["replicates"])
        if _same(told, ends(values)):
            found.setdefault(system, {}).setdefault(segment, {})[metric] = values
    return found


def _same(told: Any, found: NDArray[np.float64]) -> bool:
    """Whether these [2] are the ends of [value, low, high]; whatever else stands there is not."""
    try:
        return bool(np.allclose(told[1:], found, rtol=0, atol=1e-12))
    except (TypeError, ValueError):
        return False
