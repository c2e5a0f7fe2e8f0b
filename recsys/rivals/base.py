"""The base as one more system of the search: trained and scored by the real commands, in processes of their own."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recsys import settings
from recsys.config import Config
from recsys.distributed import one_thread, torchrun
from recsys.errors import InputError
from recsys.rivals.rows import Scored
from recsys.tables import checkpoint
from recsys.trials.space import Params


@dataclass(frozen=True)
class Base:
    """A run of the ranker in its own folder; it resumes where it was interrupted."""

    given: Path
    run: Path
    ranks: int
    valid_auc: float

    def scores(self, split: str) -> Iterator[Scored]:
        """Row ids and probabilities of a split, by `tools.predict`."""
        _launch("predict", [str(self.given), "--split", split], self.run, self.ranks)
        for part in sorted((self.run / "scores" / split).glob("part-*.parquet")):
            table = pq.read_table(part)
            yield table["row_id"].to_numpy(), table["score"].to_numpy().astype(np.float64)


def train(config: Config, params: Params, folder: Path, ranks: int) -> Base:
    """Train by `tools.train` under `torchrun`, unless the folder holds the finished run.

    params: dotted config keys and their values.

    Raises:
        InputError: a key that the config does not know, or a command failed; its log is named.
    """
    given = folder / "given.yaml"
    settings.dump(settings.with_values(replace(config, run=str(folder)), params), given)
    _launch("train", [str(given)], folder, ranks)
    best = checkpoint.best(folder / "checkpoints")
    return Base(given, folder, ranks, checkpoint.progress_of(best).best_auc)


def _launch(tool: str, arguments: list[str], folder: Path, ranks: int) -> None:
    command = [*torchrun(), "--nproc-per-node", str(ranks), "-m", f"tools.{tool}", *arguments]
    log = folder / f"{tool}.log"
    with log.open("w") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=one_thread(), check=False).returncode
    if code:
        raise InputError(f"tools.{tool} ended with status {code}; see {log}")
