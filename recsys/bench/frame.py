"""The frame of the bench: rows by name, each measured in ranks of its own, merged into one `bench.json`.

A row is a function `measure(config, ranks) -> Measured`, named as `package.module:function`; the module is imported in
the ranks only. `runs/bench.json` maps a row's name to {"ours", "bound", "ratio", "unit", ...}.
"""

import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from recsys import settings
from recsys.config import Config
from recsys.distributed import Ranks, one_thread, process_group, torchrun
from recsys.errors import InputError
from recsys.files import replacing


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row: `ours` and `bound` are medians in `unit`, `ratio` the median of the rounds' ratios."""

    ours: float
    bound: float
    ratio: float
    unit: str
    required: float
    bound_is: str
    """Which of the bound's contenders was the fastest."""
    ratios: list[float]
    """Of each round."""
    rates: dict[str, list[float]]
    """Of each contender and round."""
    detail: dict[str, Any] = field(default_factory=dict)


Measure = Callable[[Config, Ranks], Measured]


@dataclass(frozen=True)
class Row:
    """`measure` is `package.module:function`, run on `ranks` ranks."""

    measure: str
    ranks: int


def median_ratio(rates: dict[str, list[float]], unit: str, required: float, detail: dict[str, Any]) -> Measured:
    """The row from rates by contender, one a round: "ours", and others of which the fastest by median is the bound."""
    bound_is = max((name for name in rates if name != "ours"), key=lambda name: median(rates[name]))
    ratios = [ours / bound for ours, bound in zip(rates["ours"], rates[bound_is], strict=True)]
    return Measured(
        ours=median(rates["ours"]),
        bound=median(rates[bound_is]),
        ratio=median(ratios),
        unit=unit,
        required=required,
        bound_is=bound_is,
        ratios=ratios,
        rates=rates,
        detail=detail,
    )


def amount(number: float) -> str:
    """As a table shows it."""
    return f"{number:,.0f}" if number >= 100 else f"{number:,.3g}"


def alternated(
    contenders: Mapping[str, Callable[[], object]],
    count: int,
    unit: str,
    required: float,
    rounds: int,
    detail: dict[str, Any],
) -> Measured:
    """The row of contenders that do `count` of the unit a turn, one turn each a round; who begins a round changes."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            start = time.perf_counter()
            contenders[name]()
            rates[name].append(count / (time.perf_counter() - start))
    return median_ratio(rates, unit, required, detail)


def run_row(row: Row, config: str, overrides: list[str]) -> dict[str, Any]:
    """Measure one row in ranks of its own.

    Raises:
        InputError: the row failed; its ranks have said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        worker = [f"--nproc-per-node={row.ranks}", "-m", "recsys.bench.frame", row.measure, str(out), config]
        if subprocess.run([*torchrun(), *worker, *overrides], env=one_thread()).returncode:
            raise InputError(f"bench row {row.measure} failed")
        return json.loads(out.read_text())


def bench(rows: dict[str, Row], config: str, overrides: list[str], path: Path) -> dict[str, dict[str, Any]]:
    """Measure rows and merge them into the file `path`, each as soon as it is done; returns all that it then holds."""
    told = json.loads(path.read_text()) if path.exists() else {}
    for name, row in rows.items():
        told[name] = run_row(row, config, overrides)
        with replacing(path) as partial:
            partial.write_text(json.dumps(told, indent=1) + "\n")
    return told


def machine() -> dict[str, Any]:
    """What a rate depends on besides the code."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _worker(measure: str, out: str, config: str, *overrides: str) -> None:
    module, _, function = measure.partition(":")
    run: Measure = getattr(importlib.import_module(module), function)
    with process_group() as ranks:
        measured = run(settings.load(config, overrides), ranks)
        if ranks.is_first:
            Path(out).write_text(json.dumps({**asdict(measured), "machine": machine()}))


if __name__ == "__main__":
    _worker(*sys.argv[1:])
