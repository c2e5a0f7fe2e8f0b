"""The types of config values that `recsys.config` and its parts share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Sharding = Literal[
    "auto",
    "row_wise",
    "table_wise",
    "column_wise",
    "table_row_wise",
    "grid_shard",
    "table_column_wise",
    "data_parallel",
]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Widths = Annotated[list[Positive], Field(min_length=1)]
Cutoffs = Annotated[list[Positive], Field(min_length=1)]
