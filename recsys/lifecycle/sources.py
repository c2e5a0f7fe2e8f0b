"""The rows that each source gives K new items, from their feedback. Legend: D ID width."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.learned import NAME, Learned
from recsys.coldrows.prior import unknown_prior
from recsys.coldrows.strength import Strengths, finetune_chosen
from recsys.config_lifecycle import Source
from recsys.data.schema import read_info
from recsys.distributed import of_first
from recsys.errors import InputError
from recsys.lifecycle.blend import weights
from recsys.prompt.feedback import Feedback
from recsys.prompt.reading import Reading, gather, read, tune
from recsys.prompt.summary import share

_READ: tuple[Source, ...] = ("read", "read-tuned")
"""Sources that need what was learned from the warm items."""


@dataclass(frozen=True)
class Blended:
    """Rows [K, D] float32, and of each item the rows of feedback [K] that they are made from."""

    vectors: Tensor
    feedback: NDArray[np.int64]
    found: dict[str, Any]
    """What is to be told of each source."""


class Sources:
    """The sources of a run, for items that have feedback in `files`. Collective, all of it."""

    def __init__(self, frozen: Frozen, items: pa.Array, files: list[Path], base: str) -> None:
        """items: [K], those of `frozen`. base: the version of the run's tables."""
        self._frozen, self._items, self._files, self._base = frozen, items, files, base
        self._config = frozen.encoder.config

    def blended(self, most: int) -> Blended:
        """By the config's stages, with up to `most` rows of feedback an item.

        Raises:
            InputError: a file that cannot be read, or no simulated rows of these tables where a stage asks for them.
        """
        stages = self._config.lifecycle.stages
        given, reading = self._given(most)
        count = np.zeros(self._frozen.count, np.int64)
        if given is not None:
            count = np.bincount(given.item, minlength=self._frozen.count)
        share_of = torch.from_numpy(weights(stages, count))
        total = torch.zeros(self._frozen.count, len(self._frozen.unknown()), dtype=torch.float64)
        found: dict[str, Any] = {}
        for stage, part in zip(stages, share_of.T, strict=True):
            if part.any():
                vectors, found[stage.source] = self._of(stage.source, given, reading)
                total += part[:, None] * vectors.double().cpu()
        return Blended(total.float(), count, found)

    def _given(self, most: int) -> tuple[Feedback | None, Reading | None]:
        """The feedback, and what is read off it where any stage asks for that."""
        if not most or not self._files:
            return None, None
        if not any(stage.source in _READ for stage in self._config.lifecycle.stages):
            return gather(self._frozen, self._files, most), None
        reading = read(self._frozen, self._files, most, self._base)
        return reading.given, reading

    def _of(self, source: Source, given: Feedback | None, reading: Reading | None) -> tuple[Tensor, dict[str, Any]]:
        if source == "simulated":
            return self._simulated(), {}
        if given is not None and source == "tuned":
            return self._tuned(given)
        if reading is not None and source == "read":
            return reading.prior.start, reading.told()
        if reading is not None and source == "read-tuned":
            return self._read_tuned(reading)
        return self._start(), {}

    def _start(self) -> Tensor:
        return self._frozen.unknown().repeat(self._frozen.count, 1)

    def _tuned(self, given: Feedback) -> tuple[Tensor, dict[str, Any]]:
        limits = Strengths.of(self._config.floor, self._config.evaluate.batch_size)
        rows = share(self._frozen, given)
        tuned, losses = finetune_chosen(self._frozen, rows, unknown_prior(self._frozen), limits)
        return tuned.rows, {"gradient_steps": tuned.steps, "left_out_loss": losses}

    def _read_tuned(self, reading: Reading) -> tuple[Tensor, dict[str, Any]]:
        tuned, told = tune(self._frozen, reading)
        return tuned.rows, reading.told() | told

    def _simulated(self) -> Tensor:
        """Those that simulated users taught; an item that nobody simulated starts as any."""
        options = self._config.simulator
        folder = Path(self._config.run) / "simulator" / options.name
        rows = of_first(self._frozen.ranks, lambda: _simulated(folder, self._base, self._config.data.path))
        place = pc.index_in(self._items, rows.items.cast(self._items.type))
        known = place.is_valid().to_numpy(zero_copy_only=False)
        vectors = self._start()
        taught = rows.vectors[torch.from_numpy(place.drop_null().to_numpy().astype(np.int64))]
        vectors[torch.from_numpy(known)] = taught.to(vectors)
        return vectors


def _simulated(folder: Path, base: str, dataset: str) -> Learned:
    rows = Learned.read(folder)
    if rows is None or rows.about.base != base:
        found = "none" if rows is None else f"rows for {rows.about.base}"
        raise InputError(
            f"{folder / NAME}: expected rows that simulated users taught the tables {base}, found {found}: run "
            f"tools.simulate on {read_info(dataset).name} first"
        )
    return rows
