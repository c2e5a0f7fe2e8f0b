"""The part of the config that says how an item's row is read off its first feedback (`tools.prompt`)."""

from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Natural, Positive

Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Above zero."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Summary:
    """A map from what the first users of an item have in common to its ID vector, fitted on warm items."""

    items: Positive = 20_000
    """Warm items that it is fitted on at most."""
    draws: Positive = 4
    """Disjoint draws of an item's training rows that each stand for first feedback, where it has as many rows."""
    rows: Positive = 64
    """Rows of an item's feedback, the newest, that are read at most."""
    smoothing: Above = 5.0
    """Liked (disliked) items that an average history counts for in that of a user."""
    ridge: Annotated[list[Above], Field(min_length=1)] = field(
        default_factory=lambda: [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
    )
    """Penalties tried on left-out items, in units of the mean eigenvalue of the summaries' second moments."""
    finetune: bool = False
    """Fine-tune the vectors on the same feedback, from what the map says of them."""
    prior: Above = 4.0
    """finetune: pull towards that; 1 takes the spread of the map's errors on left-out items at its word."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    """finetune: converged when a step improves the objective by a smaller share of it."""
    max_passes: Positive = 200
    """finetune: passes over the feedback at most."""
    seed: Natural = 0
    """Draws items and rows."""
