"""The part of the config that says what the ranker reads of an item besides its ID: IDProxy's Table 1 as switches."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Sharding, Widths


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Slot:
    """Frozen vectors made from an item's content, and where the ranker uses them.

    v1, v2 and v3 of the paper's Table 1 are `place: feature` with another `coarse` each, v4 is `feature` with both
    files, v5 is `slot` with both.
    """

    place: Literal["none", "feature", "slot"] = "none"
    """none: nowhere. feature: the target's vectors join the crossing. slot: they are added to the ID vector wherever
    the ranker uses it, as target, as attention query and at every history position."""
    coarse: str | None = None
    """Parquet (item_id, vector): a coarse proxy p_coarse for each item, of any width; items that are not in it have
    no content. Read once, when a run begins."""
    layers: str | None = None
    """Parquet (item_id, vector): an encoder's layer groups side by side (3 H), which an adaptor refines to p_fine."""
    adaptor: Widths = field(default_factory=lambda: [64])
    """layers: hidden sizes of the adaptor (its last layer has width D)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the layers' numbers, and of a coarse vector's whose width is not D, that training does not see, so that
    no item is learned by heart."""
    sharding: Sharding = "auto"
    """How both tables are laid over ranks: auto (one of the next two), row_wise, table_wise, column_wise."""

    @model_validator(mode="after")
    def _coarse_first(self) -> "Slot":
        if self.place != "none" and self.coarse is None:
            raise ValueError(f"place={self.place} reads item vectors: name the file in `coarse`")
        return self
