"""New items' vectors read off their first feedback, as they are or fine-tuned from there.

<run>/prompt/map.safetensors     what was learned from the warm items, once for a trained base
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import Prior
from recsys.coldrows.strength import Strengths, finetune_chosen
from recsys.coldrows.tune import Tuned
from recsys.data.encode import ITEM
from recsys.data.schema import read_info
from recsys.distributed import of_first, on_first
from recsys.prompt import feedback, saved, start
from recsys.prompt.feedback import Codes, Feedback
from recsys.prompt.summary import share
from recsys.prompt.values import Values

_AFTERWARDS = dict.fromkeys(("finetune", "prior", "tolerance", "max_passes"))


@dataclass(frozen=True)
class Reading:
    """Of K items."""

    prior: Prior
    """Where the map puts them."""
    rows: Codes
    """[K] the number of rows that each was read by; 0 starts at the trained unknown row."""
    given: Feedback
    left_out_error: dict[int, float]
    """The map's squared error on left-out items, in shares of the vectors' variance, by number of rows."""

    def told(self) -> dict[str, Any]:
        """For whoever asks how rows came to be."""
        return {"items": int((self.rows > 0).sum()), "left_out_error": self.left_out_error}


def read(frozen: Frozen, files: list[Path], most: int, base: str) -> Reading:
    """By up to `most` rows of each item in `files` (see `recsys.prompt.feedback.of_new`). Collective.

    base: the version of the run's tables, which a saved map must be of.

    Raises:
        InputError: a file that cannot be read, a value that is not finite, or too few warm items to learn from.
    """
    config = frozen.encoder.config
    options = config.prompt.summary
    learned, known = _learned(frozen, base)
    given = gather(frozen, files, most, known)
    prior, rows = start.prompted(frozen, learned, given, options, config.evaluate.batch_size)
    return Reading(prior, rows, given, {n: min(ridge.errors) for n, ridge in learned.ridges.items()})


def gather(frozen: Frozen, files: list[Path], most: int, known: Values | None = None) -> Feedback:
    """The rows that `read` reads, and nothing learned: without `known` as feedback to fine-tune on alone.

    Raises:
        InputError: a file that cannot be read.
    """
    encoder = frozen.encoder
    place = frozen.place(np.arange(encoder.maps[ITEM].capacity))
    return feedback.of_new(encoder, known, place, files, min(most, encoder.config.prompt.summary.rows))


def tune(frozen: Frozen, reading: Reading) -> tuple[Tuned, dict[str, Any]]:
    """Fine-tune on the rows that were read, from where they put the items; and what is to be told. Collective."""
    config = frozen.encoder.config
    limits = Strengths.of(config.prompt.summary, config.evaluate.batch_size)
    tuned, losses = finetune_chosen(frozen, share(frozen, reading.given), reading.prior, limits)
    told = {"gradient_steps": tuned.steps, "passes": tuned.passes, "converged": tuned.converged}
    return tuned, told | {"left_out_loss": losses}


def _learned(frozen: Frozen, base: str) -> tuple[start.Map, Values]:
    """The run's map, learned if it has none for this base and these settings. Collective."""
    config, ranks = frozen.encoder.config, frozen.ranks
    folder, options = Path(config.run) / "prompt", config.prompt.summary
    # What is done with the map afterwards makes no other map.
    told = [saved.FORMAT, {**asdict(options), **_AFTERWARDS}, base, read_info(config.data.path).fingerprint]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    held = of_first(ranks, lambda: saved.load(folder, key))
    if held is None:
        held = start.learn(frozen, options, config.evaluate.batch_size)
        on_first(ranks, lambda: saved.save(folder, key, *held))
    return held
