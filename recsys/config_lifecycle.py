"""The part of the config that says what fills an item's row as its feedback grows."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Natural, Positive

Source = Literal["start", "simulated", "tuned", "read", "read-tuned"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stage:
    """From how many rows of feedback a source alone fills an item's row."""

    rows: Natural
    """Rows of feedback."""
    source: Source
    """start: the trained unknown row, all that a ranker without proxies knows of a new item; simulated: the row that
    simulated users taught (`tools.simulate`); tuned: fine-tuned on the feedback from the start; read: read off the
    feedback (`tools.prompt`); read-tuned: fine-tuned from there. Proxies, where the ranker has them, are beside the row
    in the ID slot at every stage."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Lifecycle:
    """Which source fills the row of a new item, by how many rows of feedback it has."""

    name: str = "road"
    """Of the folder, and of the system in results."""
    stages: Annotated[list[Stage], Field(min_length=1)] = field(
        default_factory=lambda: [Stage(rows=0, source="start"), Stage(rows=1, source="read-tuned")]
    )
    """In the order of their rows, from 0. Between two stages an item's row is a blend of both, by the logarithm of 1 +
    its rows of feedback."""
    replay: Annotated[list[Positive], Field(min_length=1)] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32, 64])
    """Impressions after which the replay gives an item its row anew; before the first it has that of the stage at 0."""

    @field_validator("stages")
    @classmethod
    def _from_none_up(cls, stages: list[Stage]) -> list[Stage]:
        rows = [stage.rows for stage in stages]
        if rows[0] != 0 or sorted(set(rows)) != rows:
            raise ValueError(f"expected stages from 0 rows up, found {rows}")
        return stages

    @field_validator("replay")
    @classmethod
    def _ascending(cls, replay: list[int]) -> list[int]:
        if sorted(set(replay)) != replay:
            raise ValueError(f"expected ascending numbers of impressions, found {replay}")
        return replay
